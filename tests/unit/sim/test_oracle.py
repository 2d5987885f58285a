"""The oracle as a whole: what it counts and leaves out, that nothing it is told makes it stumble, what it costs."""

import time
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetctl.rendezvous.messages import Ping, Release, Reset
from fleetctl.sim.journal import (
    AgentHeard,
    Faulted,
    Listed,
    ProcessChanged,
    Restarting,
    TrainerEnded,
    TrainerStarted,
    Wrote,
)
from fleetctl.sim.oracle import Oracle

from .histories import History


def test_it_keeps_the_first_twenty_of_each_invariant_and_counts_all():
    history = History().runs()
    for _ in range(30):
        history.stops(1, "itself", 0).starts(1)
    assert len(history.oracle.violations) == 20
    assert history.oracle.counts["S2"] == 30


def test_what_is_not_judged_is_neither_counted_nor_told():
    history = History()
    history.oracle = Oracle(not_judged=["S2"])
    history.controller_lists("a")
    history.create_gang({})
    history.runs().stops(1, "itself", 0).starts(1).ends()
    assert history.broken() == set()
    assert not history.looked_at("S2")
    assert history.looked_at("S3")


def test_several_gangs_are_told_apart():
    one, other = History().runs(), History(name="other")
    other.oracle, other.uids = one.oracle, 1000
    other.create_gang({})
    other.runs().recovers()
    one.later(9).ends()
    assert one.broken() == set()
    other.stops(2, "restart").starts(2)
    assert one.broken() == {"S2"}
    assert "gang other: rank 2" in one.told()


def test_a_run_without_a_check_shows_that_it_had_none():
    assert not History(listed=False).ends("gone").oracle.evaluated["S1"]


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["", "1", "a/1", "2026-11-21T03", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["status", "attempt", "hours", "uid", "rank", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
SMALL = st.integers(-1, 3)
UIDS = st.sampled_from(["g1", "g2", "p1", "p2", "p3", ""])
WORDS = st.sampled_from(["", "a", "b", "node-1", "t1", "t2"])


@st.composite
def gangs(draw: Any) -> Any:
    attempt = st.fixed_dictionaries(
        {},
        optional={
            "target": SMALL | JSON,
            "released": SMALL | JSON,
            "ticket": WORDS | JSON,
            "writer": st.sampled_from(["a/1", "b/2", "a", "/", ""]) | JSON,
            "cause": st.fixed_dictionaries(
                {}, optional={"scope": st.sampled_from(["Start", "Node", "Container"]) | JSON,
                              "rule": st.sampled_from(["pod-gone", "container-exit", "start", "node-dead"]) | JSON,
                              "rank": SMALL | JSON}) | JSON,
            "replacing": st.lists(st.fixed_dictionaries({"uid": UIDS, "bad": st.booleans(), "node": WORDS})) | JSON,
            "replaceCreatedBefore": SMALL | JSON,
            "startedAt": st.sampled_from(["2026-11-21T06:00:00Z", "2026-11-21T06:00:00", "never"]) | JSON,
            "releasedAt": st.sampled_from(["2026-11-21T05:00:00Z", "soon"]) | JSON,
        },
    )  # fmt: skip
    hours = st.dictionaries(st.sampled_from(["2026-11-21T03", "2026-11-21T04", "0001-01-01T00", "x"]), SMALL | JSON)
    kinds = st.sampled_from(["application", "node"])
    budgets = st.dictionaries(kinds, st.fixed_dictionaries({"hours": hours | JSON, "sinceProgress": SMALL | JSON}))
    status = {"attempt": draw(attempt | JSON), "budgets": draw(budgets | JSON), "conditions": draw(JSON)}
    spec = {"groups": draw(st.just([{"size": 2}]) | JSON), "recovery": draw(JSON)}
    meta = {"name": "g", "namespace": "n", "uid": draw(st.sampled_from(["g1", "g2"]))}
    return {"metadata": meta, "spec": draw(st.just(spec) | JSON), "status": draw(st.just(status) | JSON)}


@st.composite
def pods(draw: Any) -> Any:
    labels = {f"fleetctl.dev/{k}": draw(st.sampled_from(["0", "1", "g", "²", "-1", ""])) for k in ("rank", "attempt")}
    owner = {"kind": "Gang", "apiVersion": "fleetctl.dev/v1alpha1", "uid": draw(UIDS)}
    meta = {"name": "p", "uid": draw(UIDS), "labels": draw(st.just(labels) | JSON)}
    meta["ownerReferences"] = draw(st.just([owner]) | JSON)
    status = {"phase": draw(st.sampled_from(["Running", "Failed"])), "conditions": draw(JSON)}
    return {
        "metadata": meta,
        "spec": draw(st.just({"nodeName": "node-1"}) | JSON),
        "status": draw(st.just(status) | JSON),
    }


def events() -> Any:
    who = {"gang": st.just(("n", "g")), "rank": SMALL, "uid": UIDS, "node": WORDS}
    run = {**who, "attempt": SMALL, "pod": WORDS}
    actors = st.sampled_from(["controller/a", "controller/b", "somebody", "kubelet/node-1", "garbage-collector"])
    verbs = st.sampled_from(["create", "update", "patch", "delete"])

    def wrote(plural: str, bodies: Any) -> Any:
        either = st.none() | bodies
        return st.builds(
            Wrote, at=st.just(0.0), actor=actors, verb=verbs, plural=st.just(plural), namespace=st.just("n"),
            name=st.just("g"), subresource=st.sampled_from(["", "status"]), before=either, after=either,
        )  # fmt: skip

    message = st.builds(Ping, SMALL, WORDS) | st.builds(Release, SMALL, WORDS) | st.builds(Reset, SMALL)
    why = st.sampled_from(["itself", "restart", "pod", "node"])
    families = st.sampled_from(["api", "stale", "process", "node", "pod", "agent", "people"])
    return st.one_of(
        wrote("gangs", gangs()),
        wrote("pods", pods()),
        wrote("nodes", JSON.map(lambda value: {"metadata": {"name": "node-1"}, "spec": value, "status": value})),
        st.builds(TrainerStarted, at=st.just(0.0), ticket=WORDS, **run),
        st.builds(TrainerEnded, at=st.just(0.0), exit_code=SMALL, why=why, **run),
        st.builds(Restarting, at=st.just(0.0), by=WORDS, exit_code=st.sampled_from([1, 88]), **who),
        st.builds(AgentHeard, at=st.just(0.0), uid=UIDS, node=WORDS, message=message),
        st.builds(
            Faulted, at=st.just(0.0), fault=WORDS, family=families, phase=st.sampled_from(["begins", "ends"]),
            text=WORDS, ranks=st.tuples(SMALL), nodes=st.tuples(WORDS), fences=st.tuples(UIDS),
        ),
        st.builds(Listed, at=st.just(0.0), actor=actors, plural=st.sampled_from(["gangs", "pods", "nodes"])),
        st.builds(ProcessChanged, at=st.just(0.0), process=WORDS, what=st.sampled_from(["starts", "crashes"])),
    )  # fmt: skip


ENDS = st.sampled_from(["running", "completed", "failed", "held", "suspended", "gone"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events(), max_size=20), ENDS)
def test_nothing_it_is_told_makes_it_stumble(history, end):
    oracle = Oracle()
    for at, event in enumerate(history):
        oracle(replace(event, at=float(at)))
    oracle.finish(30.0, end=end, bound_s=5.0, quiet_s=3.0)
    assert all(violation.text for violation in oracle.violations)


def test_an_event_costs_the_same_in_a_large_gang():
    """Judged by the ratio: a walk over all ranks at every event would make it a hundred times as much."""

    def seconds_an_event(ranks: int) -> float:
        history = History(ranks=ranks).raises("Start", "start", None)
        for rank in range(ranks):
            history.create_pod(rank).later(0.02)
        history.releases()
        began = time.perf_counter()
        history.all_start()
        return (time.perf_counter() - began) / ranks

    assert min(seconds_an_event(2000) for _ in range(3)) < 20 * min(seconds_an_event(20) for _ in range(3))
