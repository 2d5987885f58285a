"""Verdicts from what a machine says of its devices: reports (XIDs) in the pod's volume, and the kubelet's list of those
that are unhealthy.

A code is of the **node** (the device needs a reset, or worse), of the **program** (it may explain why a trainer ended,
and never is a cause alone), or means nothing. What is not in the table means nothing, until a user's rule names it.
Reports and the times of a pod are of the same machine's clock.
"""

from collections import defaultdict
from collections.abc import Mapping

from fleetctl.gang.diagnose.case import Case, Rule, Whole
from fleetctl.gang.state import Life, Report, Seconds, Verdict

BEFORE_LIFE_S = 600.0
"""A report that is so much older than the life of the pod's containers is about something else, seconds."""
EXPLAINS_BEFORE_S, EXPLAINS_AFTER_S = 600.0, 300.0
"""Drivers report late: what was reported so long before or after an exit may explain it, seconds."""
DAY_S = 86_400.0
BURST_S = 180.0
"""One fault is reported many times within so many seconds."""
NODES_OF_A_PROGRAM = 3
"""The same code on so many nodes comes from what they all run."""


def _xids(*numbers: int) -> frozenset[str]:
    return frozenset(f"xid-{number}" for number in numbers)


# NVIDIA's catalogue of XIDs, by the immediate action that it asks for
NODE_CODES = (
    _xids(46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158)  # reset the GPU
    | _xids(48, 79)  # a double bit error; the GPU has fallen off the bus
    | _xids(74, *range(144, 151))  # NVLink
    | _xids(54, 78, 151, 167)  # power cable, firmware, virtual machine, PCIe
)
PROGRAM_CODES = _xids(
    8, 11, 13, 25, 31, 32, 39, 40, 41, 60, *range(68, 73), 75, 76, 77, 80, *range(82, 87), 88, 89, 94
) | _xids(*range(96, 106), *range(126, 136), 139)  # restart the application
SUMMARY_CODE = "xid-154"
"""Says in words which recovery is needed, and is asked first."""
SUMMARY_OF_NODE = ("node reboot required", "gpu reset required", "drain and reset", "drain p2p")
OUR_DOING = _xids(43, 45)
"""What a restart of the trainer looks like to the driver. No rule ever sees them, the user's neither."""


def reports(life: Life | None) -> tuple[Report, ...]:
    """What was reported in this life, or shortly before it."""
    told = life.hardware if life else ()
    return tuple(r for r in told if life and r.at >= life.started_at - BEFORE_LIFE_S and r.code not in OUR_DOING)


def is_of_node(report: Report) -> bool:
    """Whether the device needs more than another run."""
    if report.code == SUMMARY_CODE:
        return any(action in report.text.lower() for action in SUMMARY_OF_NODE)
    return report.code in NODE_CODES


def is_tolerated(case: Case, code: str) -> bool:
    """Whether a user's rule says that a restart in place is enough for it."""
    rule = next((rule for _, rule in case.rules if code in rule.match.hardware), None)
    return rule is not None and rule.action == "RestartInPlace"


def described(report: Report) -> str:
    """The report in words: `xid-79 on GPU-3 (has fallen off the bus)`."""
    device, text = f" on {report.device}" if report.device else "", f" ({report.text})" if report.text else ""
    return f"{report.code}{device}{text}"


def hardware_report(case: Case) -> Verdict | None:
    """The machine reports a device that needs more than another run."""
    pod = case.member.pod
    if pod is None or pod.phase == "Succeeded" or not pod.node:
        return None
    bad = [r for r in reports(case.member.life) if is_of_node(r) and not is_tolerated(case, r.code)]
    if not bad:
        return None
    first = min(bad, key=lambda r: (r.code != SUMMARY_CODE, r.at))
    because = f"node {pod.node}: {described(first)}, reported by {case.who}'s pod"
    return _verdict(case, "hardware-report", because, pod.node, since=first.at)


def device_unhealthy(case: Case) -> Verdict | None:
    """The kubelet says that a device of the pod is unhealthy."""
    pod = case.member.pod
    if pod is None or pod.phase == "Succeeded" or not pod.node:
        return None
    devices = sorted({device for container in pod.containers for device in container.unhealthy})
    if not devices:
        return None
    named = ", ".join(devices[:4]) + (", …" if len(devices) > 4 else "")
    return _verdict(case, "device-unhealthy", f"node {pod.node}: its kubelet calls {named} unhealthy", pod.node)


RULES: tuple[Rule, ...] = (hardware_report, device_unhealthy)


def explanation(case: Case, ended_at: Seconds) -> tuple[str, bool]:
    """What a report of the program's kind adds to the sentence about an exit; and whether it speaks against the
    machine, because the same device does it again and again, and other machines do not."""
    told = [r for r in reports(case.member.life) if r.code in PROGRAM_CODES]
    near = [r for r in told if -EXPLAINS_BEFORE_S <= r.at - ended_at <= EXPLAINS_AFTER_S]
    if not near:
        return "", False
    report = min(near, key=lambda r: abs(r.at - ended_at))
    if report.code in case.whole.once(codes_of_the_program):
        return f"; {report.code} on many nodes: it is the program", False
    same = [r.at for r in told if (r.code, r.device) == (report.code, report.device) and report.at - r.at < DAY_S]
    again = max(same) - min(same) > BURST_S
    return f"; {described(report)}" + (", not for the first time" if again else ""), again


def codes_of_the_program(whole: Whole) -> frozenset[str]:
    """Codes that so many nodes of the gang report that their machines cannot be to blame."""
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for member in whole.members:
        if member.life is not None and member.life.hardware and member.pod is not None:
            for report in reports(member.life):
                nodes[report.code].add(member.pod.node)
    return _on_many(nodes)


def _on_many(nodes: Mapping[str, set[str]]) -> frozenset[str]:
    return frozenset(c for c, on in nodes.items() if c in PROGRAM_CODES and len(on) >= NODES_OF_A_PROGRAM)


def _verdict(case: Case, rule: str, because: str, node: str, since: Seconds = 0.0) -> Verdict:
    return Verdict(
        scope="Node",
        rule=rule,
        rank=case.member.rank,
        because=because,
        since=since,
        rung="RecreatePod",
        node=node,
        strikes=node,
    )
