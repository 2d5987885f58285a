"""Rules of diagnosis, a row each: what is seen of rank 1, and the verdict; with the near misses that must give none."""

import pytest

from fleetctl.gang.diagnose import diagnose
from fleetctl.gang.state import Container, Ended, Life, Member, Pod, Promise

RELEASED = Promise(attempt=2, ticket="t")
LIFE = Life(uid="u", life_id="x", started_at=100.7, attempt=2, promise=RELEASED)
WAITING = Life(uid="u", life_id="y", started_at=100.7)


def pod(
    code: int | None = None,
    at: float = 105,
    *,
    container: str = "trainer",
    reason: str = "Error",
    signal: int = 0,
    restarting: float | None = 105,
    phase: str = "Running",
) -> Pod:
    ended = None if code is None else Ended(exit_code=code, reason=reason, signal=signal, finished_at=at)
    return Pod(
        name="p",
        uid="u",
        phase=phase,
        restarting_since=restarting,
        containers=(Container(name=container, ended=ended),),
    )


@pytest.mark.parametrize(
    ("seen", "life", "rule", "because"),
    [
        (pod(3), LIFE, "container-exit", "rank 1 exited 3"),
        (pod(3, restarting=None), LIFE, "container-exit", "rank 1 exited 3"),
        (pod(139), LIFE, "fatal-signal", "rank 1 exited 139 (SIGSEGV)"),
        (pod(255, signal=9), LIFE, "fatal-signal", "rank 1 exited 255 (SIGKILL)"),
        (pod(200), LIFE, "container-exit", "rank 1 exited 200"),
        (
            pod(137, reason="OOMKilled"),
            LIFE,
            "out-of-memory",
            "rank 1 was killed because it met its memory limit (OOMKilled)",
        ),
        (pod(64), LIFE, "fatal-exit", "rank 1 exited 64, which a rule of the gang calls fatal"),
        (
            pod(64, phase="Failed", restarting=None),
            LIFE,
            "fatal-exit",
            "rank 1 exited 64, which a rule of the gang calls fatal",
        ),
        (pod(64, phase="Failed"), None, "fatal-exit", "rank 1 exited 64, which a rule of the gang calls fatal"),
        (pod(64, container="helper"), LIFE, "container-exit", "rank 1, container helper, exited 64"),
        (pod(7, container="helper"), LIFE, "container-exit", "rank 1, container helper, exited 7"),
        (pod(), LIFE, "exit-not-observed", "rank 1 restarted (exit code not observed)"),
        (pod(restarting=None), WAITING, "exit-not-observed", "rank 1 restarted (exit code not observed)"),
        (None, None, "pod-gone", "the pod of rank 1, p-1, is gone"),
        # near misses
        (pod(restarting=None), LIFE, None, None),
        (pod(0, restarting=None), LIFE, None, None),  # exited 0: not a fault
        (
            pod(7, container="helper", restarting=None),
            LIFE,
            None,
            None,
        ),  # a helper that ended without restarting the pod
        (pod(3, at=100, restarting=100), LIFE, None, None),  # about an earlier life
        (pod(3, at=100, restarting=None), LIFE, None, None),  # the same second: perhaps about an earlier life
        (pod(3), None, None, None),  # the agent has not spoken yet: which life this is about, nobody knows
        (
            pod(restarting=None),
            Life(uid="u", life_id="y", started_at=100.7, promise=RELEASED),
            None,
            None,
        ),  # not told yet
        (pod(restarting=None), Life(uid="u", life_id="y", started_at=1, connected=False), None, None),  # a stream lost
    ],
)
def test_rule(seen: Pod | None, life: Life | None, rule: str | None, because: str | None) -> None:
    member = Member(rank=1, pod_name="p-1", trainer="trainer", pod=seen, life=life)
    verdicts = diagnose([member], RELEASED, frozenset({64}))
    assert [(v.rule, v.because) for v in verdicts] == ([(rule, because)] if rule else [])


def test_the_earliest_evidence_with_a_time_names_the_culprit() -> None:
    seen = {0: pod(1, at=109), 1: pod(139, at=106), 2: pod(), 3: pod(1, at=106)}
    members = [Member(rank=r, pod_name=f"p-{r}", trainer="trainer", pod=p, life=LIFE) for r, p in seen.items()]
    assert [v.rank for v in diagnose(members, RELEASED, frozenset())] == [1, 3, 0, 2]


def test_a_fatal_exit_comes_before_everything() -> None:
    seen = {0: pod(1, at=106), 1: pod(64, at=109)}
    members = [Member(rank=r, pod_name=f"p-{r}", trainer="trainer", pod=p, life=LIFE) for r, p in seen.items()]
    assert [v.rank for v in diagnose(members, RELEASED, frozenset({64}))] == [1, 0]
