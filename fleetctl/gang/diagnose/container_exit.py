"""Verdicts from how a container ended: exit code, signal, out of memory.

Knows nothing of nodes and nothing of what will be done about it (plan.py). A rule returns None when the facts do not
concern it; it never guesses: a container's exit code is visible for about two seconds before Kubernetes overwrites it
(137, RestartingAllContainers), and "not observed" is an honest answer.

Add a rule: write a function, list it in RULES where it must be asked (first answer wins), add its rows to
tests/unit/gang/test_diagnose.py. `fatal_exit` is asked before all other families.
"""

import signal

from fleetctl.gang.diagnose.case import Case, Rule
from fleetctl.gang.state import Verdict


def fatal_exit(case: Case) -> Verdict | None:
    """A user rule ends the gang on this exit code of the trainer."""
    failed = case.failed_container
    if failed is None or failed[0].name != case.member.trainer or failed[1].exit_code not in case.gang.fatal_codes:
        return None
    return _verdict(
        case, "fatal-exit", f"exited {failed[1].exit_code}, which a rule of the gang calls fatal", fatal=True
    )


def out_of_memory(case: Case) -> Verdict | None:
    """The container met its own memory limit."""
    failed = case.failed_container
    if failed is None or failed[1].reason != "OOMKilled":
        return None
    return _verdict(case, "out-of-memory", "was killed because it met its memory limit (OOMKilled)")


def fatal_signal(case: Case) -> Verdict | None:
    """The process died of a signal."""
    failed = case.failed_container
    if failed is None:
        return None
    number = failed[1].signal or failed[1].exit_code - 128
    if number not in _SIGNALS:
        return None
    return _verdict(case, "fatal-signal", f"exited {failed[1].exit_code} ({_SIGNALS[number]})")


def plain_exit(case: Case) -> Verdict | None:
    """The process ended with an exit code of its own."""
    failed = case.failed_container
    return failed and _verdict(case, "container-exit", f"exited {failed[1].exit_code}")


def exit_not_observed(case: Case) -> Verdict | None:
    """All containers restarted, and nobody saw why: the kubelet is at it, or a life waits that was never released."""
    life, pod = case.member.life, case.member.pod
    if pod is not None and pod.terminal:
        return None
    unreleased = life is not None and life.waits and life.connected and life.promise != case.gang.released
    if not (case.restarting or unreleased):
        return None
    why = f"{case.who} restarted (exit code not observed)"
    return Verdict(scope="Container", rule="exit-not-observed", rank=case.member.rank, because=why)


RULES: tuple[Rule, ...] = (out_of_memory, fatal_signal, plain_exit, exit_not_observed)

_SIGNALS = {s.value: s.name for s in signal.Signals}


def _verdict(case: Case, rule: str, what: str, *, fatal: bool = False) -> Verdict:
    assert case.failed_container is not None  # noqa: S101  (the caller has looked)
    assert case.member.pod is not None  # noqa: S101
    container, ended = case.failed_container
    who = case.who if container.name == case.member.trainer else f"{case.who}, container {container.name},"
    return Verdict(
        scope="Container",
        rule=rule,
        rank=case.member.rank,
        because=f"{who} {what}",
        since=ended.finished_at,
        fatal=fatal,
        rung="RecreatePod" if case.member.pod.phase == "Failed" else "InPlace",
    )
