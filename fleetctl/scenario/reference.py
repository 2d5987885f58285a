"""The reference of the format as tables, made from the types: for `fleetctl scenario --list-…` and scenarios/README.md.

A table is its heading and its rows, plain text without markup. `python -m fleetctl.scenario.reference PAGE` fills the
tables of a page anew.
"""

import inspect as docs
import re
import sys
from pathlib import Path
from typing import Any

from msgspec import NODEFAULT, Struct, inspect

from fleetctl.scenario import form
from fleetctl.scenario.faults import FAULTS
from fleetctl.scenario.model import FIGURES, GangSize, KindCluster, Latency, Trainer, World
from fleetctl.scenario.reader import READS, default_of, fields_of, kind_of, wanted

Table = list[tuple[str, ...]]


def faults() -> Table:
    """Every fault: what it is done to, who can do it, its parameters and their defaults."""
    rows: Table = [("FAULT", "FAMILY", "TARGET", "LASTS", "BACKENDS", "PARAMETERS", "WHAT IT DOES")]
    for fault in FAULTS.values():
        lasts, parameters = "yes" if fault.lasts else "no", _parameters(fault)
        row = (fault.name, fault.family, fault.target, lasts, ", ".join(fault.backends), parameters, summary(fault))
        rows.append(row)
    return rows


def expectations() -> Table:
    """Every expectation: its keys and their defaults."""
    rows: Table = [("EXPECTATION", "KEYS", "MEANING")]
    for name, expectation in form.EXPECTATIONS.items():
        keys = "see the figures" if name == "figures" else _parameters(expectation)
        rows.append((name, keys, summary(expectation)))
    return rows


def figures() -> Table:
    """Every figure."""
    return [("FIGURE", "MEANING"), *FIGURES.items()]


def keys(kind: type[Struct]) -> Table:
    """The keys of one mapping in the file."""
    rows: Table = [("KEY", "VALUE", "DEFAULT", "MEANING")]
    for name, each in fields_of(kind).items():
        about = kind_of(each.type)
        rows.append((name, wanted(each.type), _default(each), about.description))
    return rows


def tables() -> dict[str, Table]:
    """All tables, by the name they have in scenarios/README.md."""
    return {
        "file": keys(form.File),
        "world": keys(World),
        "gang": keys(GangSize),
        "trainer": keys(Trainer),
        "latency": keys(Latency),
        "kind": keys(KindCluster),
        "step": keys(form.Step),
        "when": keys(form.When),
        "select": keys(form.Select),
        "faults": faults(),
        "expectations": expectations(),
        "figures": figures(),
    }


def markdown(table: Table) -> str:
    """The table for a page; the first column in code."""
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [[cell.capitalize() for cell in head], ["---"] * len(head), *([f"`{row[0]}`", *row[1:]] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(page: str) -> str:
    """The page with each `<!-- table: NAME -->` … `<!-- end -->` filled anew."""

    of = tables()

    def filled(found: re.Match[str]) -> str:
        return f"<!-- table: {found['name']} -->\n{markdown(of[found['name']])}\n<!-- end -->"

    return re.sub(r"<!-- table: (?P<name>\w+) -->\n.*?<!-- end -->", filled, page, flags=re.DOTALL)


def summary(kind: type[Struct]) -> str:
    """The first sentences of a type's docstring."""
    return docs.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("`", "")


def default_in_file(each: inspect.Field) -> Any:
    """The default as it would stand in a scenario file; None where there is none, or nothing that one would write."""
    default, reads = default_of(each), kind_of(each.type).reads
    if default is NODEFAULT or default is None or default in ([], {}):
        return None
    if isinstance(bounded := kind_of(each.type).type, inspect.IntType) and default < (bounded.ge or 0):
        return None  # stands for another value, which the description tells
    if reads in READS:
        return READS[reads].show(default)
    return None if isinstance(default, Struct) else default


def _parameters(kind: type[Struct]) -> str:
    """`name: default`, `name: …` where one has to be given, `[name]` where it may be absent."""
    told = []
    for name, each in fields_of(kind).items():
        default = "…" if default_of(each) is NODEFAULT else _default(each)
        told.append(f"{name}: {default}" if default else f"[{name}]")
    return ", ".join(told)


def _default(each: inspect.Field) -> str:
    """The default as text; empty where there is none."""
    match default_in_file(each):
        case None:
            return ""
        case bool(default):
            return str(default).lower()
        case list(default):
            return f"[{', '.join(map(str, default))}]"
        case default:
            return str(default) or '""'


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(fill(page.read_text()))
