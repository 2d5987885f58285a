"""Which nodes a pod may be on, and beside which pods it would rather not be: what schedulers and kubelets both read.

As far as pods of gangs say such things: nodeSelector, required node affinity, preferred pod affinity, and preferred pod
anti-affinity by hostname.
Knows nothing of room, nor of who asks.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fleetctl.sim.journal import Object

Labels = Mapping[str, str]
HOSTNAME = "kubernetes.io/hostname"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def attracts(pod: Object, node: Object) -> bool:
    """Whether the node is one of those that the pod's selector and required affinity ask for."""
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = _affinity(spec, "nodeAffinity").get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_term(term, labels, fields) for term in required.get("nodeSelectorTerms") or ())


def dislike(pod: Object, others: Iterable[Labels]) -> int:
    """How much the pod would rather not be on a node where the others are, whose labels these are."""
    wishes = [wish for wish in _repelled_by(pod) if wish["podAffinityTerm"].get("topologyKey") == HOSTNAME]
    return sum(
        int(wish["weight"])
        for wish in wishes
        for labels in others
        if _selects(wish["podAffinityTerm"].get("labelSelector") or {}, labels)
    )


def liked(pod: Object, others: Collection[tuple[Labels, Labels]]) -> Counter[tuple[str, str]]:
    """How much the pod would like to be where the others are: by label of nodes and its value. `others` are the labels
    of their nodes, and their own."""
    out = Counter[tuple[str, str]]()
    wishes = _affinity(pod["spec"], "podAffinity").get(_PREFERRED) or []
    for wish in wishes:
        key, selector = wish["podAffinityTerm"]["topologyKey"], wish["podAffinityTerm"].get("labelSelector") or {}
        for node, labels in others:
            if key in node and _selects(selector, labels):
                out[key, node[key]] += int(wish["weight"])
    return out


def is_choosy(pod: Object) -> bool:
    """Whether it matters to the pod which others are on a node."""
    return bool(_repelled_by(pod) or _affinity(pod["spec"], "podAffinity").get(_PREFERRED))


def _repelled_by(pod: Object) -> list[Object]:
    return _affinity(pod["spec"], "podAntiAffinity").get(_PREFERRED) or []


def _affinity(spec: Object, kind: str) -> Object:
    return (spec.get("affinity") or {}).get(kind) or {}


def _term(term: Object, labels: Labels, fields: Labels) -> bool:
    """All of what it asks for; an empty term is met by no node."""
    expressions, of_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    return bool(expressions or of_fields) and (
        all(_holds(each, labels) for each in expressions) and all(_holds(each, fields) for each in of_fields)
    )


def _selects(selector: Object, labels: Labels) -> bool:
    """An empty selector selects all."""
    wanted = selector.get("matchLabels") or {}
    same = all(labels.get(key) == value for key, value in wanted.items())
    return same and all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Any, labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise ValueError(f"nobody has taught the simulation the operator {other}")
