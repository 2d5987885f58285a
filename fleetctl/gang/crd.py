"""The CustomResourceDefinition, made from the types of `spec.py`. `make manifests` writes it to manifests/crd.yaml.

Knows what Kubernetes' structural schemas allow and msgspec's JSON schemas do not say alike: no references, `nullable`
instead of a union with null, CEL rules beside the type they speak of.
"""

import inspect
from typing import Any

import msgspec

from fleetctl.gang import spec

Schema = dict[str, Any]

COLUMNS: tuple[tuple[str, str, str, str], ...] = (  # name, type, JSON path, description
    ("Size", "integer", ".status.ranks.total", "ranks in the gang"),
    ("Ready", "integer", ".status.ranks.released", "ranks that may train"),
    ("Attempt", "integer", ".status.attempt.target", "the attempt the gang runs or gathers for"),
    ("State", "string", '.status.conditions[?(@.type=="Running")].reason', "what is going on"),
    ("Last cause", "string", ".status.attempt.cause.message", "why the attempt began"),
    ("Age", "date", ".metadata.creationTimestamp", ""),
)


def definition() -> Schema:
    """The whole CustomResourceDefinition, as a JSON-able value."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gangs.{spec.GROUP}"},
        "spec": {
            "group": spec.GROUP,
            "names": {"kind": "Gang", "listKind": "GangList", "plural": "gangs", "singular": "gang"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": spec.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": n, "type": t, "jsonPath": p} | ({"description": d} if d else {})
                        for n, t, p, d in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _root() -> Schema:
    (ref_spec, ref_status), components = msgspec.json.schema_components(
        [spec.GangSpec, spec.GangStatus], ref_template="{name}"
    )
    return {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 40, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}},
            },
            "spec": _structural(ref_spec, components),
            "status": _without_defaults(_structural(ref_status, components)),
        },
    }


def _structural(schema: Schema, components: dict[str, Schema]) -> Schema:
    """The same schema as Kubernetes wants it: inlined, without unions, CEL rules added."""
    if "anyOf" in schema or "allOf" in schema:
        rest = {k: v for k, v in schema.items() if k not in ("anyOf", "allOf")}
        kinds = [s for s in [*schema.get("anyOf", ()), *schema.get("allOf", ())] if s != {"type": "null"}]
        assert len(kinds) == 1, f"a structural schema has no unions: {schema}"  # noqa: S101  (a mistake in spec.py)
        return _structural(kinds[0], components) | _structural(rest, components)
    if "$ref" in schema:
        name = schema["$ref"]
        rest = {k: v for k, v in schema.items() if k != "$ref"}
        return _structural(components[name], components) | _rules(name) | _structural(rest, components)
    out: Schema = {}
    for key, value in schema.items():
        match key:
            case "title":
                continue
            case "properties":
                out[key] = {k: _structural(v, components) for k, v in value.items()}
                for name in schema.get("required", ()):
                    out[key][name].pop("default", None)  # what must be said is not filled in
            case "default" if value == []:
                continue  # an absent list stays absent: CEL's has() tells it from an empty one, which may be refused
            case "items" | "additionalProperties":
                if value != {}:  # {} stands beside x-kubernetes-preserve-unknown-fields, which says the same
                    out[key] = _structural(value, components)
            case "required":
                # a part that may be left out whole is filled in: CEL and readers need not ask whether it is there
                out |= {"required": value} if value else {"default": {}}
            case "description":
                out[key] = inspect.cleandoc(value).replace("`", "").replace("\n", " ").replace("  ", " ")
            case "enum":
                out[key] = value
                out["type"] = "string"
            case _:
                out[key] = value
    return out


def _without_defaults(schema: Schema) -> Schema:
    """What the controller has not said must not look said."""
    out = {k: v for k, v in schema.items() if k != "default"}
    if "properties" in out:
        out["properties"] = {k: _without_defaults(v) for k, v in out["properties"].items()}
    if "items" in out:
        out["items"] = _without_defaults(out["items"])
    return out


def _rules(name: str) -> Schema:
    rules = getattr(spec, name).RULES
    return {"x-kubernetes-validations": [{"rule": r, "message": m} for r, m in rules]} if rules else {}
