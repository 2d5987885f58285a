"""Verdicts from how a container ended: exit code, signal, out of memory.

Knows nothing of nodes and nothing of what will be done about it (plan.py). A rule returns None when the facts do not
concern it; it never guesses: a container's exit code is visible for about two seconds before Kubernetes overwrites it
(137, RestartingAllContainers), and "not observed" is an honest answer.

An end that bad memory or a bad device may have caused counts against the machine (`strikes`), and proves nothing. Ends
that are what peers of a failed rank usually come to (`follows`) are the least likely culprits; while a failure domain
is silent they count against no machine.

Add a rule: write a function, list it in RULES where it must be asked (first answer wins), add its rows to
tests/unit/gang/test_diagnose.py.
"""

import signal
from functools import lru_cache

from fleetctl.gang.diagnose import hardware
from fleetctl.gang.diagnose.case import Case, Rule
from fleetctl.gang.state import Verdict

_SIGNALS = {s.value: s.name for s in signal.Signals}
MACHINE_SIGNALS = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"})
"""Bad memory and bad devices end processes so; far more often a bug does."""
MACHINE_REASONS = frozenset({"ContainerCannotRun", "StartError"})
"""The container never started: a bad entrypoint, or the machine's runtime, its devices."""
FOLLOWING_SIGNALS = frozenset({"SIGABRT", "SIGTERM"})
FOLLOWING_CODES = frozenset({1})
"""A peer has gone: a collective times out and aborts, or an exception says so."""
CODES = {126: "cannot be executed", 127: "not found"}


def signal_of(case: Case) -> str:
    """The signal that ended the container, "" if none did."""
    failed = case.failed_container
    return _SIGNALS.get(failed[1].signal or failed[1].exit_code - 128, "") if failed else ""


def what(case: Case) -> str:
    """How the container ended, in words; "" if none did."""
    failed = case.failed_container
    return _in_words(failed[1].exit_code, failed[1].reason, signal_of(case)) if failed else ""


@lru_cache(maxsize=64)  # thousands end alike
def _in_words(exit_code: int, reason: str, signal: str) -> str:
    if reason == "OOMKilled":
        return "was killed because it met its memory limit (OOMKilled)"
    more = signal or (reason if reason in MACHINE_REASONS else "") or CODES.get(exit_code, "")
    return f"exited {exit_code}" + (f" ({more})" if more else "")


def subject(case: Case) -> str:
    """Whose container it was."""
    failed = case.failed_container
    named = failed is not None and failed[0].name != case.member.trainer
    return f"{case.who}, container {failed[0].name}," if failed and named else case.who


def out_of_memory(case: Case) -> Verdict | None:
    """The container met its own memory limit."""
    failed = case.failed_container
    if failed is None or failed[1].reason != "OOMKilled":
        return None
    return _verdict(case, "out-of-memory")


def fatal_signal(case: Case) -> Verdict | None:
    """The process died of a signal."""
    name = signal_of(case)
    if not name:
        return None
    return _verdict(case, "fatal-signal", blames_machine=name in MACHINE_SIGNALS, follows=name in FOLLOWING_SIGNALS)


def plain_exit(case: Case) -> Verdict | None:
    """The process ended with an exit code of its own."""
    failed = case.failed_container
    if failed is None:
        return None
    ended = failed[1]
    return _verdict(
        case,
        "container-exit",
        blames_machine=ended.reason in MACHINE_REASONS,
        follows=ended.exit_code in FOLLOWING_CODES,
    )


def exit_not_observed(case: Case) -> Verdict | None:
    """All containers restarted, and nobody saw why: the kubelet is at it, or a life waits that was never released."""
    life, pod = case.member.life, case.member.pod
    if pod is not None and pod.terminal:
        return None
    unreleased = life is not None and life.waits and life.connected and life.promise != case.gang.released
    if not (case.restarting or unreleased):
        return None
    why = f"{case.who} restarted (exit code not observed)"
    return Verdict(scope="Container", rule="exit-not-observed", rank=case.member.rank, because=why, follows=True)


RULES: tuple[Rule, ...] = (out_of_memory, fatal_signal, plain_exit, exit_not_observed)


def _verdict(case: Case, rule: str, *, blames_machine: bool = False, follows: bool = False) -> Verdict:
    assert case.failed_container is not None  # noqa: S101  (the caller has looked)
    assert case.member.pod is not None  # noqa: S101
    pod, life, ended = case.member.pod, case.member.life, case.failed_container[1]
    told = life is not None and life.hardware
    explained, device_to_blame = hardware.explanation(case, ended.finished_at) if told else ("", False)
    lost_peers = follows and bool(case.gang.silent_domain)
    return Verdict(
        scope="Container",
        rule=rule,
        rank=case.member.rank,
        because=f"{subject(case)} {what(case)}{explained}",
        since=ended.finished_at,
        rung="RecreatePod" if pod.phase == "Failed" else "InPlace",
        strikes=pod.node if device_to_blame or (blames_machine and not lost_peers) else "",
        follows=follows,
    )
