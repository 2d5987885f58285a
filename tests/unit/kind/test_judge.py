"""The judge of real runs bites: each violation is planted once, beside the near miss that is fine."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from fleetctl.kind.judge import Start, judge, judged
from fleetctl.sim.oracle import Violation


class Log:
    """Three ranks that ran attempt 1 in [10, 20] and attempt 2 in [21, 30], each in one pod; tests forge it."""

    def __init__(self) -> None:
        self.starts: dict[tuple[int, int], Start] = {}
        self.more: list[Start] = []
        self.alive: dict[tuple[str, int], float] = {}
        for attempt, at, end in ((1, 10.0, 20.0), (2, 21.0, 30.0)):
            for rank in range(3):
                self.starts[rank, attempt] = Start(rank, attempt, at + rank / 10, f"uid-{rank}", f"node-{rank}")
                self.alive[f"uid-{rank}", attempt] = end

    def start(self, rank: int, attempt: int, at: float, uid: str, until: float | None = None) -> None:
        """One more trainer."""
        self.more.append(Start(rank, attempt, at, uid, "node-9"))
        self.alive[uid, attempt] = until or at

    def in_pod(self, rank: int, attempt: int, uid: str) -> None:
        """Has that rank run that attempt in another pod."""
        was = self.starts[rank, attempt]
        self.starts[rank, attempt] = replace(was, uid=uid)
        self.alive[uid, attempt] = self.alive.pop((was.uid, attempt))

    def judged(
        self,
        *,
        fenced: Collection[str] = (),
        moved: Collection[int] = (),
        released: Mapping[int, float] | None = None,
    ) -> list[str]:
        everything = [*self.starts.values(), *self.more]
        return judge(everything, self.alive, fenced=fenced, moved=moved, released=released)


def test_a_clean_run_is_fine() -> None:
    assert Log().judged(released={1: 9.9, 2: 20.9}) == []


def test_nothing_is_fine() -> None:
    assert judge([], {}) == []


def test_s1_a_trainer_that_outlives_its_attempt() -> None:
    log = Log()
    log.alive["uid-1", 1] = 21.5
    assert log.judged() == [
        (
            "S1: rank 1 (pod uid-1 on node-1) in attempt 1 was alive until 0.50 s after "
            "rank 0 (pod uid-0 on node-0) in attempt 2 had started"
        ),
    ]
    assert log.judged(fenced={"uid-1"}) == []
    log.alive["uid-1", 1] = 21.09  # two marks of a healthy trainer are that far apart
    assert log.judged() == []


def test_s1_a_trainer_that_starts_an_attempt_that_is_over() -> None:
    log = Log()
    log.starts[2, 1] = replace(log.starts[2, 1], at=21.3)
    assert log.judged() == [
        (
            "S1: rank 2 (pod uid-2 on node-2) in attempt 1 started 0.30 s after "
            "rank 0 (pod uid-0 on node-0) in attempt 2 had started"
        ),
    ]
    assert log.judged(fenced={"uid-2"}) == []


def test_s1_a_fenced_trainer_starts_a_new_attempt_for_all() -> None:
    log = Log()
    log.start(rank=1, attempt=3, at=25, uid="uid-1")
    assert [s[:10] for s in log.judged(fenced={"uid-1"})] == ["S1: rank 0", "S1: rank 2"]


def test_s1_attempts_may_be_left_out() -> None:
    log = Log()
    log.start(rank=0, attempt=7, at=31, uid="uid-0")
    assert log.judged() == []


def test_s2_a_rank_that_starts_twice_in_one_attempt() -> None:
    log = Log()
    log.start(rank=1, attempt=2, at=25, uid="uid-1", until=30)
    assert log.judged() == ["S2: rank 1 started its trainer 2 times in attempt 2"]
    assert log.judged(fenced={"uid-1"}) != []  # a fence is no licence to run the same attempt again


def test_s3_a_trainer_that_starts_before_the_release() -> None:
    log = Log()
    assert log.judged(released={1: 9.9, 2: 21.05}) == [
        "S3: rank 0 (pod uid-0 on node-0) in attempt 2 started 0.050 s before that attempt was released"
    ]
    assert log.judged(released={1: 9.9}) == []


def test_s4_a_pod_that_changes_without_a_reason() -> None:
    log = Log()
    log.in_pod(rank=1, attempt=2, uid="uid-1b")
    assert log.judged() == [
        "S4: rank 1 (pod uid-1b on node-1) in attempt 2 runs in another pod than in attempt 1 (uid-1 on node-1)"
    ]
    assert log.judged(moved={1}) == []
    assert log.judged(moved={0, 2}) != []


def test_s4_is_judged_over_attempts_that_the_rank_did_not_start() -> None:
    log = Log()
    del log.starts[1, 2]
    log.start(rank=1, attempt=3, at=31, uid="uid-1b")
    assert [s[:10] for s in log.judged()] == ["S4: rank 1"]


def test_s5_one_attempt_in_two_pods() -> None:
    log = Log()
    log.start(rank=1, attempt=2, at=40, uid="uid-1b")
    assert log.judged(moved={1}, fenced={"uid-1"}) == [
        "S2: rank 1 started its trainer 2 times in attempt 2",
        "S5: rank 1 ran attempt 2 in 2 pods: uid-1, uid-1b",
    ]


def test_s5_two_pods_of_a_rank_alive_at_once() -> None:
    log = Log()
    log.in_pod(rank=1, attempt=2, uid="uid-1b")
    log.alive["uid-1", 1] = 26  # of a node that was thought dead
    found = log.judged(moved={1})
    assert found[1:] == [
        (
            "S5: rank 1 (pod uid-1b on node-1) in attempt 2 started 4.90 s before "
            "rank 1 (pod uid-1 on node-1) in attempt 1 had ended"
        ),
    ]
    assert found[0].startswith("S1: rank 1 (pod uid-1 ")
    assert log.judged(moved={1}, fenced={"uid-1"}) == []
    log.alive["uid-1", 1] = 20
    assert log.judged(moved={1}) == []


def verdicts(log: Log, *, moved: Collection[int] = (), released: Mapping[int, float] | None = None) -> list[Violation]:
    """For a run that began at second 5."""
    starts = [*log.starts.values(), *log.more]
    found = judged(starts, log.alive, fenced={"uid-9"}, moved=moved, released=released or {}, began=5.0)
    return [replace(v, at=round(v.at, 6)) for v in found]


def test_a_clean_run_has_no_violation() -> None:
    assert verdicts(Log(), released={1: 9.9, 2: 20.9}) == []


def test_a_violation_has_its_invariant_its_moment_and_the_sentence() -> None:
    log = Log()
    log.alive["uid-1", 1] = 21.5
    told = "rank 1 (pod uid-1 on node-1) in attempt 1 was alive until 0.50 s after "
    assert verdicts(log) == [Violation("S1", 16.0, f"{told}rank 0 (pod uid-0 on node-0) in attempt 2 had started")]


def test_the_moment_is_when_the_invariant_first_did_not_hold() -> None:
    log = Log()
    log.starts[2, 1] = replace(log.starts[2, 1], at=21.3)
    assert [(v.invariant, v.at) for v in verdicts(log)] == [("S1", 16.3)]

    log = Log()
    log.start(rank=1, attempt=2, at=25, uid="uid-1", until=30)
    log.start(rank=1, attempt=2, at=24, uid="uid-1", until=30)
    assert [(v.invariant, v.at) for v in verdicts(log)] == [("S2", 19.0)]

    assert [(v.invariant, v.at) for v in verdicts(Log(), released={2: 21.05})] == [("S3", 16.0)]

    log = Log()
    log.in_pod(rank=1, attempt=2, uid="uid-1b")
    assert [(v.invariant, v.at) for v in verdicts(log)] == [("S4", 16.1)]

    log.alive["uid-1", 1] = 26
    assert [(v.invariant, v.at) for v in verdicts(log, moved={1})] == [("S1", 16.0), ("S5", 16.1)]


def test_violations_come_in_order_of_time_and_one_attempt_in_two_pods_counts_from_the_second() -> None:
    log = Log()
    log.start(rank=1, attempt=2, at=31, uid="uid-1b")
    found = verdicts(log, moved={1}, released={2: 21.05})
    assert [(v.invariant, v.at) for v in found] == [("S3", 16.0), ("S2", 26.0), ("S5", 26.0)]
    log.alive["uid-0", 1] = 21.5
    assert [v.invariant for v in verdicts(log, moved={1}, released={2: 21.05})] == ["S1", "S3", "S2", "S5"]


def test_what_is_fenced_is_let_off_in_verdicts_too() -> None:
    log = Log()
    log.start(rank=1, attempt=1, at=20, uid="uid-9", until=40)
    found = {v.invariant for v in verdicts(log, moved={1})}
    assert found == {"S2", "S5"}  # no licence to run one attempt twice, but to outlive it
