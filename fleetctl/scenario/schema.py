"""The JSON Schema of scenario files, made from the types of `form.py`: for editors, and for `fleetctl scenario schema`.

It says what a single place may hold. What places must be to each other is told by the loader alone.
"""

import json
from typing import Any

from msgspec import NODEFAULT, Struct, inspect

from fleetctl.scenario import form
from fleetctl.scenario.faults import FAULTS, Fault
from fleetctl.scenario.load_timeline import SELECTS
from fleetctl.scenario.model import VERSION
from fleetctl.scenario.reader import READS, default_of, fields_of, kind_of
from fleetctl.scenario.reference import default_in_file, summary

Schema = dict[str, Any]


def schema() -> Schema:
    """The whole schema, as a JSON-able value."""
    out = _struct(form.File)
    out["properties"]["version"]["const"] = VERSION
    out["properties"]["timeline"]["items"] = _step()
    out["properties"]["expect"]["items"] = _expectation()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fleetctl scenario", **out}


def as_text() -> str:
    """The schema as scenarios/schema.json has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _step() -> Schema:
    out = _struct(form.Step)
    out["properties"]["fault"] = {
        "oneOf": [{"const": name, "description": summary(fault)} for name, fault in FAULTS.items()]
    }
    when = out["properties"]["when"]
    when["properties"]["fault"]["enum"] = list(FAULTS)
    when["oneOf"] = [{"required": [key]} for key in when["properties"] if key != "occurrence"]
    out["oneOf"] = [{"required": ["at"]}, {"required": ["when"]}]
    out["allOf"] = [
        {"if": {"properties": {"fault": {"const": name}}, "required": ["fault"]}, "then": _with_fault(fault)}
        for name, fault in FAULTS.items()
    ]
    return out


def _with_fault(fault: type[Fault]) -> Schema:
    ways = SELECTS[fault.target]
    names = [*ways, "count"] if "rack" in ways else ways
    must = ["select"] * bool(ways) + ["with"] * any(each.required for each in fields_of(fault).values())
    parameters = _struct(fault)
    del parameters["description"]
    properties: Schema = {"with": parameters}
    one_way: Schema = {"propertyNames": {"enum": list(names)}, "oneOf": [{"required": [way]} for way in ways]}
    properties["select"] = one_way if ways else False
    if not fault.lasts:
        properties["for"] = False
    return {"properties": properties} | ({"required": must} if must else {})


def _expectation() -> Schema:
    kinds = {name: _struct(kind) for name, kind in form.EXPECTATIONS.items()}
    return {
        "type": "object",
        "properties": kinds,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _struct(kind: type[Struct]) -> Schema:
    properties: Schema = {}
    for name, each in fields_of(kind).items():
        properties[name] = _value(each.type)
        if (default := default_in_file(each)) not in (None, ""):
            properties[name]["default"] = default
    required = [name for name, each in fields_of(kind).items() if default_of(each) is NODEFAULT]
    out: Schema = {"type": "object", "description": summary(kind), "properties": properties}
    return out | {"additionalProperties": False} | ({"required": required} if required else {})


def _value(wrapped: inspect.Type) -> Schema:
    kind = kind_of(wrapped)
    out = _bare(kind.type, kind.reads)
    return out | {"description": kind.description} if kind.description else out


def _bare(kind: inspect.Type, reads: str) -> Schema:
    if reads in READS:
        text = {"type": "string", "pattern": f"^({READS[reads].pattern})$"}
        return {"type": ["string", "integer"], **text} if reads.startswith("indices") else text
    match kind:
        case inspect.StructType(cls=form) if reads == "bound":
            return {"anyOf": [{"type": "number"}, {**_struct(form), "minProperties": 1}]}
        case inspect.StructType(cls=form):
            return _struct(form)
        case inspect.ListType(item_type=item):
            return {"type": "array", "items": _value(item)} | _limits(
                minItems=kind.min_length, maxItems=kind.max_length
            )
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.StrType(pattern=pattern, min_length=low, max_length=high):
            return {"type": "string"} | _limits(pattern=pattern, minLength=low, maxLength=high)
        case inspect.IntType(ge=low, le=high):
            return {"type": "integer"} | _limits(minimum=low, maximum=high)
        case inspect.FloatType():
            return {"type": "number"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case _:
            return {"type": "object"}


def _limits(**limits: Any) -> Schema:
    return {name: limit for name, limit in limits.items() if limit is not None}
