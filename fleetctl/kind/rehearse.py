"""Runs a scenario on a kind cluster, in real time and with real faults, and gathers what is to be told of it.

The same listeners as in the simulator are told the same kinds of events; here the events come from the API server's
audit log and from the trainers' own records. Both have the time of this machine, whose containers the nodes are, so
they are put in the order of their times; what is younger than a moment waits for what may still come before it.

Of the invariants those are judged that the trainers' records alone can prove broken (judge.py).
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetctl.gang.pods import LABEL_GANG, LABEL_RANK
from fleetctl.gang.strikes import STRIKES
from fleetctl.kind.audit import AuditLog
from fleetctl.kind.cluster import Cluster
from fleetctl.kind.injector import Injector
from fleetctl.kind.judge import judged
from fleetctl.kind.records import PROGRAM, Records
from fleetctl.kind.shell import CommandFailed
from fleetctl.kind.statuses import Statuses
from fleetctl.scenario.calm import Calm
from fleetctl.scenario.expectations import Expectations
from fleetctl.scenario.facts import record_of
from fleetctl.scenario.figures import Figures
from fleetctl.scenario.model import Scenario, Step
from fleetctl.scenario.outcome import Outcome
from fleetctl.scenario.simulate import NAMESPACE, STABLE_S, gang_body
from fleetctl.scenario.timeline import Timeline
from fleetctl.scenario.triggers import Triggers
from fleetctl.sim.journal import Event, Journal, Listener, Object, TrainerStarted, Wrote
from fleetctl.sim.oracle import Violation

LOOKS_EVERY_S = 0.2
YOUNG_S = 0.5
"""Events of the last moment are not told yet: another source may be later in telling an earlier one."""
LOGS = {
    "controller.log": ("-n", "fleetctl-system", "logs", "deploy/fleetctl-controller", "--tail=5000"),
    "events.txt": ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
    "nodes.txt": ("get", "nodes", "-o", "wide"),
}
GONE_S = 90.0
"""How long the pods of a deleted gang may take to go."""


async def rehearse(
    scenario: Scenario, seed: int, cluster: Cluster, image: str, *, watch: Callable[[Event], None] | None = None
) -> Outcome:
    """One run on a cluster where fleetctl is deployed. `image` has Python and a shell, for the trainers. Nothing of it
    is left in the end, however it ends: faults are undone, the gang is deleted."""
    run = _Run(scenario, seed, cluster, image, watch)
    broken = ""
    try:
        await run.story()
        broken = "; ".join(run.failures)
    except (CommandFailed, LookupError, OSError) as error:  # the run did not take place as written
        broken = f"{type(error).__name__}: {error}"
    finally:
        run.over_at = run.now()
        left = await asyncio.shield(run.clean_up())
    return run.outcome("; ".join(why for why in (broken, *run.injector.failures, left) if why))


class _Run:
    def __init__(
        self, scenario: Scenario, seed: int, cluster: Cluster, image: str, watch: Callable[[Event], None] | None
    ) -> None:
        self.scenario, self.seed, self.cluster = scenario, seed, cluster
        self.began = time.time()
        self.over_at = 0.0
        self.body = body_on_kind(scenario, image)
        self.key = (NAMESPACE, scenario.world.gang.name)
        self.journal = Journal()
        self.audit = AuditLog(self.began)
        self.statuses = Statuses(self.key)
        self.records = Records(cluster.records / self.key[1], self.key, self.began)
        self.injector = Injector(
            cluster,
            scenario,
            seed,
            self.key,
            self.body,
            self.records,
            pods=lambda: self.audit.pods(NAMESPACE, LABEL_GANG, self.key[1]),
            tell=self._wait_for_order,
            now=self.now,
        )
        self.calm, self.figures, self.timeline, self.expectations = (
            Calm(),
            Figures(),
            Timeline(),
            Expectations(scenario),
        )
        self.triggers = Triggers(scenario.timeline, self._begin_soon)
        self.violations: list[Violation] = []
        self.judged_until = 0.0
        """Unix time; a gang that is created again begins another story."""
        self.released: dict[int, float] = {}
        self._nodes: dict[int, str] = {}
        """By rank."""
        self.failures: list[str] = []
        self._waiting: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._wrote_at = 0.0
        self._steps: set[asyncio.Task[None]] = set()
        listeners: list[Listener] = [
            self.calm,
            self.figures,
            self.expectations,
            self.timeline,
            self.triggers,
            self._note,
        ]
        self.journal.listeners += [*listeners, *([watch] if watch else [])]

    def now(self) -> float:
        return time.time() - self.began

    async def story(self) -> None:
        """From a cluster without gangs to the end that is expected, or until it is too late for it."""
        end, quiet_s = self.scenario.expect.end, max(STABLE_S, self.scenario.expect.quiet_s)
        self.records.clear()
        for node in (await self.cluster.get("nodes"))["items"]:
            self._wait_for_order(self.audit.know("nodes", node))
        with self.cluster.audit_log.open("rb") as log:
            log.seek(0, 2)
            await self.cluster.apply(self.body)
            for step in self.scenario.timeline:
                if step.at is not None:
                    self._begin(step, step.at)
            while not (self.failures or self.injector.failures):
                await asyncio.sleep(LOOKS_EVERY_S)
                self._read(log)
                self._tell_in_order(self.now() - YOUNG_S)
                now = self.now() - YOUNG_S
                if self.injector.under_way:
                    continue
                if self.triggers.waits_for_calm() and (calmed := self.calm.look(now)):
                    self.journal.tell(calmed)
                    continue  # what waited for it has just begun
                calm_since = max(self._wrote_at, self.injector.last_at)
                over = not self.triggers.missed() and now > calm_since + quiet_s
                if over and self.expectations.reached(now - quiet_s):
                    return
                if now > self.injector.last_at + end.within + quiet_s:
                    return

    # Events

    def _read(self, log: Any) -> None:
        """What is new in the audit log and in the records."""
        while line := log.readline():
            if not line.endswith(b"\n"):
                log.seek(-len(line), 1)
                break
            for event in self.audit.events(line):
                self._wait_for_order(event)
        for started in self.records.poll():
            self._wait_for_order(started)

    def _wait_for_order(self, event: Event) -> None:
        heapq.heappush(self._waiting, (event.at, next(self._numbers), event))

    def _tell_in_order(self, until: float) -> None:
        while self._waiting and self._waiting[0][0] <= until:
            event = heapq.heappop(self._waiting)[2]
            if isinstance(event, TrainerStarted):
                self._tell_all(self.statuses.started(event))
                self.injector.trainer_started(event)
            self.journal.tell(event)
            if isinstance(event, Wrote) and event.plural == "pods":
                self._tell_all(self.statuses.events(event))
        while self.injector.lost_nodes:
            self._tell_all(self.statuses.node_lost(self.injector.lost_nodes.pop(), until))

    def _tell_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self.journal.tell(event)

    def _note(self, event: Event) -> None:
        if not isinstance(event, Wrote):
            return
        if event.actor.startswith("controller/") and event.plural != "leases":
            self._wrote_at = event.at
        if event.plural == "gangs" and event.before is None:
            self._judge(self.began + event.at)
        if event.plural == "pods" and event.after is not None:
            rank = (event.after["metadata"].get("labels") or {}).get(LABEL_RANK)
            if rank is not None:
                self._nodes[int(rank)] = event.after["spec"].get("nodeName", "")
        record = record_of(event.after) if event.plural == "gangs" else {}
        if (cause := record.get("cause") or {}).get("rule") == "lemon":  # two failures on one machine may be chance
            self.injector.moved |= {rank for rank, node in self._nodes.items() if node == cause.get("node")}
        if record.get("releasedAt"):
            self.released[record["released"]] = datetime.fromisoformat(record["releasedAt"]).timestamp()

    # Faults

    def _begin_soon(self, step: Step) -> None:
        self._begin(step, 0.0)

    def _begin(self, step: Step, at: float) -> None:
        self.injector.under_way += 1  # from now on, also while it waits for its `after`
        task = asyncio.ensure_future(self._carry_out(step, at + step.after))
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)

    async def _carry_out(self, step: Step, later_s: float) -> None:
        try:
            await asyncio.sleep(later_s)
            await self.injector.carry_out(step)
        except (LookupError, CommandFailed) as error:
            self.failures.append(f"{self.scenario.path}:{step.line}: {error}")
        finally:
            self.injector.under_way -= 1

    # The end

    async def clean_up(self) -> str:
        """The cluster as it was; or what is not."""
        for task in self._steps:
            task.cancel()
        try:
            await self.injector.clean_up()
            await self.cluster.kubectl("annotate", "nodes", "--all", f"{STRIKES}-")
            return await self._delete_gang()
        except CommandFailed as error:
            return f"the cluster is not as it was: {error}"

    async def _delete_gang(self) -> str:
        namespace, name = self.key
        await self.cluster.kubectl("-n", namespace, "delete", "gang", name, "--ignore-not-found", "--wait=false")
        pods = ("-n", namespace, "get", "pods", "-l", f"{LABEL_GANG}={name}", "-o", "name")
        until = time.monotonic() + GONE_S
        while left := (await self.cluster.kubectl(*pods)).split():
            if time.monotonic() > until:
                return f"pods that do not go: {', '.join(left)}"
            await asyncio.sleep(1.0)
        return ""

    def _judge(self, until: float) -> None:
        """By what the trainers wrote since it was judged last, until that Unix time."""
        expect = self.scenario.expect
        found = judged(
            [start for start in self.records.starts() if self.judged_until <= start.at < until],
            self.records.alive(),
            fenced=self.injector.fenced,
            moved=self.injector.moved | set(expect.new_pods or ()),
            released=self.released,
            began=self.began,
        )
        skipped = {each.invariant for each in expect.not_judged}
        if self.scenario.policy.mode != "Observe":  # the invariants speak of Enforce
            self.violations += [violation for violation in found if violation.invariant not in skipped]
        self.judged_until, self.released = until, {}

    def outcome(self, broken: str) -> Outcome:
        """Of the run, which is over."""
        self._tell_in_order(self.over_at)
        at = self.over_at
        figures = self.figures.finish(at)
        unmet = self.expectations.judge(at, figures)
        unmet += [
            f"the fault {type(step.fault).name} (line {step.line}) never began: what it waits for did not happen"
            for step in self.triggers.missed()
        ]
        self._judge(self.began + at)
        return Outcome(
            scenario=self.scenario.name,
            seed=self.seed,
            backend="kind",
            verdict="fail" if broken or unmet or self.violations else "pass",
            wall_s=time.time() - self.began,
            virtual_s=at,
            trace_hash="",
            violations=self.violations,
            unmet=unmet,
            broken=broken,
            figures=figures,
            recoveries=self.figures.recoveries,
            story=self.timeline.story(),
        )


def body_on_kind(scenario: Scenario, image: str) -> Object:
    """The Gang that the scenario tries, with trainers that keep records."""
    body, of = gang_body(scenario), scenario.world.trainer
    downward = {"POD_UID": "metadata.uid", "POD": "metadata.name", "NODE": "spec.nodeName"}
    env: list[Any] = [{"name": k, "valueFrom": {"fieldRef": {"fieldPath": path}}} for k, path in downward.items()]
    env.append({"name": "STEP_S", "value": str(of.step)})
    if of.reports_steps:
        env.append({"name": "STEPS", "value": "yes"})
    if of.runs_for is not None:
        env.append({"name": "RUNS_FOR", "value": str(of.runs_for)})
    trainer = {
        "name": "trainer",
        "image": image,
        "command": ["python3", "-c", PROGRAM],
        "env": env,
        "securityContext": {"runAsUser": 0},  # the records' folder is the kubelet's
        "resources": {"limits": {"memory": "64Mi"}},  # out_of_memory needs one
        "volumeMounts": [{"name": "records", "mountPath": "/records", "subPathExpr": "$(FLEETCTL_GANG)/$(POD_UID)"}],
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {LABEL_GANG: scenario.world.gang.name}},
    }
    pod = body["spec"]["groups"][0]["template"]["spec"]
    pod |= {
        "terminationGracePeriodSeconds": 2,
        "containers": [trainer],
        "volumes": [{"name": "records", "hostPath": {"path": "/records", "type": "Directory"}}],
        "topologySpreadConstraints": [spread],
    }
    return body


async def collect_logs(cluster: Cluster, outcome: Outcome, folder: Path) -> None:
    """The story, the controller's log and what is on the cluster, for whoever looks into a failure."""
    texts = {file: await cluster.kubectl(*command, check=False) for file, command in LOGS.items()}
    texts["timeline.txt"] = "".join(f"{line.at:8.1f}  {line.text}\n" for line in outcome.story)
    _write(folder, texts)


def _write(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (folder / file).write_text(text)
