"""The same random requests, sent to both servers: the same answers, and the same objects afterwards."""

from contextlib import ExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fleetctl.controller.resources import GANGS
from fleetctl.kube.objects import PODS, Resource

from .api import Answer, Api, Connection, Object, simulated
from .conftest import NAMESPACES
from .words import a_gang, a_pod, changed

EXAMPLES, STEPS = 10, 25
KINDS = st.sampled_from([GANGS, PODS])
NAMES = st.sampled_from(["a", "b"])
FINALIZERS = st.sampled_from([None, ["x.dev/y"], ["x.dev/y", "x.dev/z"]])
LABELS = st.sampled_from([None, {"a": "1"}, {"a": None}, {"a": "2", "b": "1"}])
AGES = st.sampled_from(["none", "now", "before"])
STATUSES = {
    GANGS.plural: [{"observedGeneration": 1}, {"observedGeneration": 2}],
    PODS.plural: [{"phase": "Running"}, {"phase": "Failed"}, {"phase": "Pending"}],
}


def outline(body: Object) -> Object:
    """What must be the same: all but uids, versions, the time, and what only a real server fills in."""
    meta = body["metadata"]
    return {
        "name": meta["name"],
        "generation": meta["generation"],
        "labels": meta.get("labels"),
        "finalizers": meta.get("finalizers"),
        "grace": meta.get("deletionGracePeriodSeconds"),
        "deleted": "deletionTimestamp" in meta,
        "suspend": body["spec"].get("suspend"),
        "status": {k: v for k, v in (body.get("status") or {}).items() if k in {"phase", "observedGeneration"}},
    }


class Side:
    """One of the two servers, and what somebody saw there."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.seen: dict[tuple[str, str], list[Object]] = {}

    def look(self, resource: Resource[Any], name: str) -> None:
        answer = self.api.get(resource, name)
        if answer.status == 200:
            self.seen.setdefault((resource.plural, name), []).append(answer.body)

    def aged(self, resource: Resource[Any], name: str, age: str) -> Object | None:
        """The object as it was last seen, or the time before that."""
        seen = self.seen.get((resource.plural, name), [])
        return None if len(seen) < 2 else seen[-1 if age == "now" else -2]


class Machine(RuleBasedStateMachine):
    """Both are asked the same."""

    connection: Connection

    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        apis = self.stack.enter_context(simulated()), self.stack.enter_context(self.connection.api(next(NAMESPACES)))
        self.sides = [Side(api) for api in apis]

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    def both(self, resource: Resource[Any], name: str, ask: Any) -> None:
        answers = [ask(side) for side in self.sides]
        assert _said(answers[0]) == _said(answers[1])
        for side in self.sides:
            side.look(resource, name)

    @rule(resource=KINDS, name=NAMES, finalizers=FINALIZERS, node=st.sampled_from(["", "n"]))
    def create(self, resource: Resource[Any], name: str, finalizers: list[str] | None, node: str) -> None:
        meta = {"finalizers": finalizers} if finalizers else {}
        body = a_gang(name, **meta) if resource is GANGS else a_pod(name, node=node, **meta)
        self.both(resource, name, lambda side: side.api.post(resource, body))

    @rule(resource=KINDS, name=NAMES, age=AGES, labels=LABELS, finalizers=FINALIZERS)
    def patch(self, resource: Resource[Any], name: str, age: str, labels: Any, finalizers: Any) -> None:
        def ask(side: Side) -> Answer:
            meta: Object = {"labels": labels, "finalizers": finalizers}
            if age != "none" and (old := side.aged(resource, name, age)):
                meta["resourceVersion"] = old["metadata"]["resourceVersion"]
            return side.api.patch(resource, name, {"metadata": meta})

        self.both(resource, name, ask)

    @rule(name=NAMES, age=AGES, suspend=st.booleans())
    def replace_the_spec(self, name: str, age: str, suspend: bool) -> None:
        def ask(side: Side) -> Answer | None:
            if (old := side.aged(GANGS, name, age)) is None:
                return None
            return side.api.put(GANGS, changed(old, spec={**old["spec"], "suspend": suspend}))

        self.both(GANGS, name, ask)

    @rule(resource=KINDS, name=NAMES, age=AGES, which=st.integers(0, 2))
    def write_the_status(self, resource: Resource[Any], name: str, age: str, which: int) -> None:
        choices = STATUSES[resource.plural]
        status = choices[which % len(choices)]

        def ask(side: Side) -> Answer | None:
            if age == "none":
                return side.api.patch(resource, name, {"status": status}, "status")
            if (old := side.aged(resource, name, age)) is None:
                return None
            return side.api.put(resource, {**old, "status": {**old.get("status", {}), **status}}, "status")

        self.both(resource, name, ask)

    @rule(resource=KINDS, name=NAMES, age=AGES, grace=st.sampled_from([None, 0, 5, 60]), by_uid=st.booleans())
    def delete(self, resource: Resource[Any], name: str, age: str, grace: int | None, by_uid: bool) -> None:
        def ask(side: Side) -> Answer:
            options: Object = {} if grace is None else {"gracePeriodSeconds": grace}
            if age != "none" and (old := side.aged(resource, name, age)):
                key = "uid" if by_uid else "resourceVersion"
                options["preconditions"] = {key: old["metadata"][key]}
            return side.api.delete(resource, name, **options)

        self.both(resource, name, ask)

    @invariant()
    def both_have_the_same(self) -> None:
        if not hasattr(self, "sides"):
            return
        for resource in (GANGS, PODS):
            here, there = ([outline(item) for item in side.api.list(resource).ok["items"]] for side in self.sides)
            assert here == there


def _said(answer: Answer | None) -> tuple[int, str] | None:
    if answer is None:
        return None
    return (answer.status, "") if answer.status < 300 else answer.refusal


def test_both_servers_answer_random_requests_alike(connection: Connection):
    class Connected(Machine):
        pass

    Connected.connection = connection
    run_state_machine_as_test(
        Connected,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
