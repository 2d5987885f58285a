"""Changes the modules that decide in every small way, and tells which changes no test notices.

mutmut does it, in a copy of the tree. It leaves alone what is decorated and what stands outside functions. So in the
copy the cached properties are written in a way that it sees, and the lines of the tables, and the numbers and truths
outside functions, are changed one by one here.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
MUTMUT = Path(sys.executable).with_name("mutmut")
KILLED_AT_LEAST = 0.9
TABLES = ("STEPS", "_PLANNERS", "_RULES")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many mutants of mutmut run at once")
    parser.add_argument("--only", choices=("mutmut", "tables"), help="one half of it")
    options = parser.parse_args()
    config = (HERE / "mutmut.toml").read_text()
    settings = tomllib.loads(config)["tool"]["mutmut"]
    counts: dict[str, Counter[str]] = {module: Counter() for module in settings["only_mutate"]}
    with tempfile.TemporaryDirectory(prefix="fleetctl-mutation-") as directory:
        copy = Path(directory)
        shutil.copytree(ROOT / "fleetctl", copy / "fleetctl", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests/unit", copy / "tests/unit", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "pyproject.toml").write_text(f"{(ROOT / 'pyproject.toml').read_text()}\n{config}")
        if options.only != "mutmut":
            for module in counts:
                for what, noticed in change_tables(copy, module, settings["pytest_add_cli_args_test_selection"]):
                    counts[module]["killed" if noticed else "survived"] += 1
                    if not noticed:
                        print(f"survived: {module}: {what}", flush=True)
        if options.only != "tables":
            for module in counts:
                uncover_cached_properties(copy / module)
            for mutant, status in run_mutmut(copy, options.jobs):
                module = next(m for m in counts if mutant.startswith(m.removesuffix(".py").replace("/", ".") + "."))
                counts[module][status] += 1
                if status not in ("killed", "timeout"):
                    print(subprocess.check_output([MUTMUT, "show", mutant], cwd=copy, text=True), flush=True)
    print("| module | mutants | killed | timeout | survived | share |\n| --- | --- | --- | --- | --- | --- |")
    enough = True
    for module, count in counts.items():
        caught = count["killed"] + count["timeout"]
        share = caught / max(1, count.total())
        enough &= share >= KILLED_AT_LEAST
        cells = (module, count.total(), count["killed"], count["timeout"], count.total() - caught, f"{share:.1%}")
        print("|", " | ".join(str(cell) for cell in cells), "|")
    sys.exit(not enough)


def uncover_cached_properties(path: Path) -> None:
    """`@cached_property def x` becomes `def _x` and `x = cached_property(_x)`."""
    lines = path.read_text().splitlines(keepends=True)
    methods = [m for c in ast.parse("".join(lines)).body if isinstance(c, ast.ClassDef) for m in c.body]
    for method in reversed(methods):
        decorators = [ast.unparse(d) for d in method.decorator_list] if isinstance(method, ast.FunctionDef) else []
        if decorators == ["cached_property"]:
            name, at = method.name, method.lineno - 1
            lines.insert(method.end_lineno or at, f"\n    {name} = cached_property(_{name})\n")
            lines[at - 1 : at + 1] = [lines[at].replace(f"def {name}(", f"def _{name}(")]
    path.write_text("".join(lines))


def run_mutmut(copy: Path, jobs: int) -> Iterator[tuple[str, str]]:
    """Each mutant and what became of it."""
    subprocess.run([MUTMUT, "run", "--max-children", str(jobs)], cwd=copy, check=True)
    results = subprocess.check_output([MUTMUT, "results", "--all", "true"], cwd=copy, text=True)
    for line in results.splitlines():
        mutant, _, status = line.strip().rpartition(": ")
        if mutant:
            yield mutant, status


def change_tables(copy: Path, module: str, tests: list[str]) -> Iterator[tuple[str, bool]]:
    """Each change outside functions, and whether the tests of its package noticed it."""
    path, tests = copy / module, [test for test in tests if f"tests/unit/{Path(module).parent.name}/" in test]
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider"]
    subprocess.run([*pytest, *tests], cwd=copy, check=True)
    source = path.read_text()
    for what, changed in changes(source):
        path.write_text(changed)
        yield what, subprocess.run([*pytest, *tests], cwd=copy, capture_output=True).returncode != 0
    path.write_text(source)


def changes(source: str) -> Iterator[tuple[str, str]]:
    """What is changed, and the whole source after it."""
    for top in ast.parse(source).body:
        if isinstance(top, ast.AnnAssign) and ast.unparse(top.target) in TABLES:
            yield from table_changes(source, top.value)
        elif isinstance(top, ast.Assign):
            yield from value_changes(source, top.value)
        elif isinstance(top, ast.ClassDef):
            for field in top.body:
                if isinstance(field, ast.AnnAssign) and field.value:
                    yield from value_changes(source, field.value)


def table_changes(source: str, table: ast.expr | None) -> Iterator[tuple[str, str]]:
    """Without each line; with each two neighbours in each other's place; without each of several tests of a line."""
    if isinstance(table, ast.Dict):
        for key in table.keys:
            yield f"without the line of {ast.unparse(key)}", without_line(source, key.lineno)
        return
    assert isinstance(table, ast.Tuple)
    for row in table.elts:
        yield f"without the line {ast.unparse(row)}", without_line(source, row.lineno)
        tests = row.elts[0].elts
        for test in tests if len(tests) > 1 else ():
            rest = ast.Tuple([t for t in tests if t is not test])
            yield f"without {test.id} in {ast.unparse(row)}", replaced(source, row.elts[0], ast.unparse(rest))
    for upper, lower in pairwise(table.elts):
        lines = source.splitlines(keepends=True)
        lines[upper.lineno - 1], lines[lower.lineno - 1] = lines[lower.lineno - 1], lines[upper.lineno - 1]
        yield f"{ast.unparse(lower)} before {ast.unparse(upper)}", "".join(lines)


def value_changes(source: str, value: ast.expr) -> Iterator[tuple[str, str]]:
    """With each number one higher, with each truth its opposite."""
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            other = not node.value if isinstance(node.value, bool) else node.value + 1
            line = source.splitlines()[node.lineno - 1].strip()
            yield f"{node.value} → {other} in {line}", replaced(source, node, repr(other))


def without_line(source: str, number: int) -> str:
    lines = source.splitlines(keepends=True)
    return "".join(lines[: number - 1] + lines[number:])


def replaced(source: str, node: ast.expr, text: str) -> str:
    """Columns count bytes."""
    lines = source.splitlines(keepends=True)
    line = lines[node.lineno - 1].encode()
    lines[node.lineno - 1] = (line[: node.col_offset] + text.encode() + line[node.end_col_offset :]).decode()
    return "".join(lines)


if __name__ == "__main__":
    main()
