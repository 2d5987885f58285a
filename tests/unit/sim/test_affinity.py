"""Which nodes a pod may be on, and beside whom it would rather not be."""

from typing import Any

import pytest

from fleetctl.sim.affinity import attracts, dislike, liked
from fleetctl.sim.journal import Object

NODE: Object = {"metadata": {"name": "node-7", "labels": {"rack": "r1", "gpu": "h100"}}, "spec": {}}


def required(*terms: Object) -> Object:
    needs = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"spec": {"affinity": {"nodeAffinity": needs}}}


def label(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def name(operator: str, value: str) -> Object:
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": [value]}]}


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        (label("rack", "In", "r1", "r2"), True),
        (label("rack", "In", "r2"), False),
        (label("zone", "In", "r1"), False),
        (label("rack", "NotIn", "r1"), False),
        (label("zone", "NotIn", "r1"), True),
        (label("rack", "Exists"), True),
        (label("zone", "Exists"), False),
        (label("rack", "DoesNotExist"), False),
        (label("zone", "DoesNotExist"), True),
        (name("In", "node-7"), True),
        (name("In", "node-8"), False),
        (name("NotIn", "node-7"), False),
        (label("rack", "Exists") | name("NotIn", "node-8"), True),
        (label("rack", "Exists") | name("NotIn", "node-7"), False),
        (label("zone", "Exists") | name("NotIn", "node-8"), False),
        ({}, False),
    ],
)
def test_all_of_a_term_must_hold(term: Object, fits: bool) -> None:
    assert attracts(required(term), NODE) is fits


def test_one_of_the_terms_suffices_and_no_term_is_met_by_nobody() -> None:
    assert attracts(required(label("zone", "Exists"), label("rack", "Exists")), NODE)
    assert not attracts(required(), NODE)


def test_a_selector_and_the_affinity_must_both_hold() -> None:
    pod = required(label("rack", "Exists"))
    pod["spec"]["nodeSelector"] = {"gpu": "h100"}
    assert attracts(pod, NODE)
    pod["spec"]["nodeSelector"] = {"gpu": "a100"}
    assert not attracts(pod, NODE)
    assert attracts({"spec": {}}, NODE)


def test_an_operator_that_nobody_knows_is_no_silent_yes() -> None:
    with pytest.raises(ValueError, match="Gt"):
        attracts(required(label("rack", "Gt", "1")), NODE)


def test_a_pod_dislikes_those_that_its_selector_finds_by_weight() -> None:
    def apart(selector: Object, key: str = "kubernetes.io/hostname", weight: int = 100) -> Object:
        wish: Any = {"weight": weight, "podAffinityTerm": {"labelSelector": selector, "topologyKey": key}}
        return {"spec": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}}}

    ranks = [{"gang": "llm", "role": "rank"}, {"gang": "llm", "role": "rank"}]
    others = [*ranks, {"gang": "llm", "role": "spare"}, {"gang": "other", "role": "rank"}]
    both = {"matchLabels": {"gang": "llm", "role": "rank"}}
    assert dislike(apart(both), others) == 200
    assert dislike(apart(both, weight=7), others) == 14
    assert dislike(apart(both), others[2:]) == 0
    assert dislike(apart(both, key="topology.kubernetes.io/zone"), others) == 0
    assert dislike(apart({"matchExpressions": [{"key": "role", "operator": "Exists"}]}), others) == 400
    assert dislike({"spec": {}}, others) == 0


def test_a_pod_likes_the_domains_where_those_are_that_its_selectors_find() -> None:
    def wish(key: str, weight: int) -> Object:
        selector = {"matchLabels": {"block": "1"}}
        return {"weight": weight, "podAffinityTerm": {"labelSelector": selector, "topologyKey": key}}

    near = {"preferredDuringSchedulingIgnoredDuringExecution": [wish("rack", 100), wish("zone", 25)]}
    pod: Object = {"spec": {"affinity": {"podAffinity": near}}}
    here, there, nowhere = {"rack": "r1", "zone": "a"}, {"rack": "r2", "zone": "a"}, {"rack": "r3"}
    block = {"block": "1"}
    others = [(here, block), (here, block), (there, block), (nowhere, {"block": "2"}), ({}, block)]
    assert liked(pod, others) == {("rack", "r1"): 200, ("rack", "r2"): 100, ("zone", "a"): 75}
    assert not liked({"spec": {}}, others)
