"""Reads YAML against types, and says everything that is wrong with it, each with its line and what to write instead.

Stricter than YAML: no aliases, no duplicate keys, no other numbers than decimal ones. Knows nothing of what the keys
mean; a type says how a text is read (`Meta.extra["reads"]`, durations.py).

A value that is wrong is reported once and reads as None, so that the rest of the file can be looked at too.
"""

import difflib
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from msgspec import NODEFAULT, Struct, inspect
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fleetctl.gang.spec import GangSpec
from fleetctl.scenario import durations
from fleetctl.scenario.model import Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A value that is written as text: how it is read (raises ValueError), and the pattern of it in the schema."""

    parse: Callable[[str], Any]
    pattern: str
    show: Callable[[Any], str] = str


READS: dict[str, Text] = {
    "duration": Text(parse=durations.duration, pattern=durations.DURATION, show=durations.seconds_text),
    "positive duration": Text(
        parse=durations.positive_duration, pattern=durations.DURATION, show=durations.seconds_text
    ),
    "signed duration": Text(
        parse=durations.signed_duration, pattern=f"-?{durations.DURATION}", show=durations.seconds_text
    ),
    "range": Text(
        parse=durations.duration_range,
        pattern=rf"{durations.DURATION}(\.\.{durations.DURATION})?",
        show=durations.range_text,
    ),
    "percent": Text(parse=durations.percent, pattern=durations.PERCENT, show=durations.percent_text),
    "indices": Text(parse=durations.spans, pattern=durations.INDICES),
    "indices or none": Text(
        parse=lambda text: () if text == "none" else durations.spans(text), pattern=f"none|{durations.INDICES}"
    ),
}

_GANG_SPEC = inspect.type_info(GangSpec)
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,3})?")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")

_LOOKS = {  # pattern of a text, what it looks like
    "^(100|[1-9]?[0-9])%$": "a whole number from 0 to 100 and a percent sign, such as 20%",
    "^[a-z]([-a-z0-9]*[a-z0-9])?$": "small letters, digits and dashes, beginning with a letter",
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "small letters, digits and dashes",
}

_YAML_HINTS = (  # part of PyYAML's words, what to do
    ("'\\t'", "indent with spaces"),
    ("found an alias", "write the value out here: scenarios are read without aliases"),
    ("mapping values are not allowed", 'put a text with ": " in it in quotes, or look at the indentation'),
    ("could not find expected ':'", "write a colon and a space after the key"),
    ("found another document", "keep one document to a file, without a second ---"),
    ("cannot start any token", "put the text in quotes"),
)


class _Loader(yaml.SafeLoader):
    """Without aliases: they could make a small file huge, or endless."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="found an alias", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type without its wrapping: what it is, how its text is read (""), and what a person is told about it."""

    type: inspect.Type
    reads: str
    description: str


def kind_of(wrapped: inspect.Type) -> Kind:
    """Takes off annotations and `| None`: a key that may be absent may still not be empty."""
    reads, description = "", ""
    while True:
        match wrapped:
            case inspect.Metadata(type=inner, extra=extra, extra_json_schema=schema):
                reads = reads or (extra or {}).get("reads", "")
                description = description or (schema or {}).get("description", "")
                wrapped = inner
            case inspect.UnionType(types=types) if len(rest := [t for t in types if t != inspect.NoneType()]) == 1:
                wrapped = rest[0]
            case _:
                return Kind(type=wrapped, reads=reads, description=description)


@functools.cache
def fields_of(form: type[Struct]) -> dict[str, inspect.Field]:
    """Fields of a type by the keys they have in the file."""
    about = inspect.type_info(form)
    assert isinstance(about, inspect.StructType)  # noqa: S101  (a Struct's type_info is one)
    return {each.encode_name: each for each in about.fields}


def default_of(each: inspect.Field) -> Any:
    """What an absent key means; NODEFAULT if it may not be absent."""
    return each.default if each.default_factory is NODEFAULT else each.default_factory()


def _required(form: type[Struct]) -> list[str]:
    return [name for name, each in fields_of(form).items() if default_of(each) is NODEFAULT]


def any_of(words: Iterable[str]) -> str:
    """`a, b or c`"""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


class Reader:
    """Reads one file; `problems` are (line, sentence). `file` is what the problems call it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[tuple[int, str]] = []

    def say(self, node: Node, sentence: str) -> None:
        """There is a problem, and its sentence ends with what to do."""
        self.problems.append((line_of(node), " ".join(sentence.split())))

    def report(self) -> tuple[str, ...]:
        """`FILE:LINE: reason; fix` for each problem, in the order of the file, each once."""
        return tuple(dict.fromkeys(f"{self.file}:{line}: {text}" for line, text in sorted(self.problems)))

    def compose(self, text: str) -> Node | None:
        """The file's YAML; None if there is none."""
        loader = None
        try:
            loader = _Loader(text)
            root: Node | None = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = error.problem or error.context or "it cannot be read"
            fix = next((fix for words, fix in _YAML_HINTS if words in what), "look at this line and the one before")
            self.problems.append((mark.line + 1 if mark else 1, f"not YAML: {what}; {fix}"))
            return None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.problems.append((line, f"not YAML: the character U+{error.character:04X}; take it out"))
            return None
        except RecursionError:
            self.problems.append((1, "nested too deeply; nothing in a scenario is deeper than ten levels"))
            return None
        except ValueError as error:  # PyYAML lets a few through, such as "\U00110000"
            self.problems.append((loader.line + 1 if loader else 1, f"not YAML: {error}; look at this line"))
            return None
        if root is None:
            self.problems.append((1, "the file is empty; begin with version: 1"))
        return root

    def open(self, node: Node, form: type[Struct], what: str, prefix: str, *, partial: bool = False) -> "Keys":
        """The keys of a mapping that must be such a `form`. Unknown, double and missing keys are reported.

        `what` names the mapping in a sentence, `prefix` stands before its keys' names (`world.`). `partial`: it is a
        merge patch, where keys may be absent, and null means take away.
        """
        keys = Keys(self, form, prefix, partial)
        known = fields_of(form)
        if not isinstance(node, MappingNode):
            empty = "{}, or " if not node.value and not _required(form) else ""
            self.say(node, f"{what} is {shown(node)}; write {empty}{_mapping(form)}")
            return keys
        meant: set[str] = set()
        for key, name, value in self._pairs(node, what):
            if name in known:
                keys.nodes[name] = value
            else:
                self.say_unknown(key, "key", name, known, f" in {what}")
                meant |= {*_close(name, known)}
        for name in _required(form):
            if not partial and name not in keys.nodes and name not in meant:
                self.say(node, f'{what} has no "{name}"; add it: {wanted(known[name].type)}')
        return keys

    def value(self, node: Node, wrapped: inspect.Type, what: str, *, partial: bool = False) -> Any:
        """The value of such a type; None if it is something else, which is reported as a problem of `what`."""
        if isinstance(node, ScalarNode) and _tag(node) == "null":
            if not partial:
                self.say(node, f"{what} is empty; write {wanted(wrapped)}, or leave the key out")
            return None
        kind = kind_of(wrapped)
        match kind.reads, kind.type:
            case "patch", _:
                self.value(node, _GANG_SPEC, what, partial=True)
                return self.plain(node, what)
            case "bound", inspect.StructType(cls=form) if isinstance(node, MappingNode):
                return self._struct(node, form, what, partial)
            case "bound", _:
                number = self._number(node, what, wrapped)
                return None if number is None else Bound(min=number, max=number)
            case str(reads), _ if reads in READS:
                return self._parsed(node, reads, what)
            case _, inspect.StructType(cls=form):
                return self._struct(node, form, what, partial)
            case _, inspect.ListType(item_type=item, min_length=low, max_length=high):
                return self._list(node, item, low or 0, high, what, partial)
            case _, inspect.DictType() if isinstance(node, MappingNode):
                return self.plain(node, what)
            case _, inspect.IntType() if isinstance(node, ScalarNode) and _tag(node) == "int":
                return self._whole(node, kind.type, what)
            case _, inspect.FloatType():
                return self._number(node, what, wrapped)
            case _, inspect.StrType() if isinstance(node, ScalarNode) and _tag(node) in ("str", "timestamp"):
                return self._text(node, kind, what)
            case _, inspect.LiteralType(values=values) if isinstance(node, ScalarNode):
                if node.value in values:
                    return node.value
                words = [str(word) for word in values if word]
                hint = _did_you_mean(node.value, words) or f"write {any_of(words)}"
                self.say(node, f"{what} cannot be {shown(node)}; {hint}")
                return None
            case _, inspect.BoolType() if isinstance(node, ScalarNode) and node.value.lower() in _TRUE + _FALSE:
                return node.value.lower() in _TRUE
            case _:
                self.say(node, f"{what} is {shown(node)}; write {wanted(wrapped)}{_quotes(node, kind.type)}")
                return None

    def items(self, node: Node, what: str) -> list[Node]:
        """The items of a list."""
        if isinstance(node, SequenceNode):
            return list(node.value)
        self.say(node, f'{what} is {shown(node)}; write a list, each item of it after "- "')
        return []

    def single(self, node: Node, what: str, such_as: str) -> tuple[str, Node] | None:
        """The only key of a mapping, and its value."""
        pairs = list(self._pairs(node, what)) if isinstance(node, MappingNode) else []
        if len(pairs) == 1:
            return pairs[0][1:]
        has = f"has {len(pairs)} keys" if isinstance(node, MappingNode) else f"is {shown(node)}"
        self.say(node, f"{what} {has}; write one key and its values, such as {such_as}")
        return None

    def plain(self, node: Node, what: str) -> Any:
        """The value as JSON has it."""
        if isinstance(node, MappingNode):
            return {name: self.plain(value, f"{what}.{name}") for _, name, value in self._pairs(node, what)}
        if isinstance(node, SequenceNode):
            return [self.plain(value, what) for value in node.value]
        match _tag(node):
            case "null":
                return None
            case "bool" if node.value.lower() in _TRUE + _FALSE:
                return node.value.lower() in _TRUE
            case "int" if _WHOLE.fullmatch(node.value):
                return int(node.value)
            case "float" if _NUMBER.fullmatch(node.value) and math.isfinite(float(node.value)):
                return float(node.value)
            case "str" | "timestamp":
                return node.value
        self.say(node, f"{what} is {shown(node)}; put it in quotes if it is text")
        return None

    def say_unknown(
        self, node: Node, noun: str, name: str, known: Iterable[str], where: str = "", *, see: str = ""
    ) -> None:
        """There is no such key, fault, …; `see`: where all of them are told, if they are many."""
        words = list(known)
        hint = _did_you_mean(name, words) or see or (f"known are {', '.join(words)}" if words else "it has none")
        self.say(node, f"unknown {noun} {_quoted(name)}{where}; {hint}")

    def _pairs(self, node: MappingNode, what: str) -> Iterator[tuple[Node, str, Node]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or _tag(key) not in ("str", "merge", "timestamp", "bool", "value"):
                fix = 'put a list with commas in quotes, such as "3,17-24"' if _tag(key) == "int" else "write a word"
                self.say(key, f"a key in {what} is {shown(key)}; {fix}")
            elif key.value in seen:
                self.say(key, f"{_quoted(key.value)} is twice in {what}, first in line {seen[key.value]}; keep one")
            else:
                seen[key.value] = line_of(key)
                yield key, key.value, value

    def _struct(self, node: Node, form: type[Struct], what: str, partial: bool) -> Any:
        before = len(self.problems)
        values = self.open(node, form, what, f"{what}.", partial=partial).values()
        return form(**values) if len(self.problems) == before and not partial else None

    def _list(self, node: Node, item: inspect.Type, low: int, high: int | None, what: str, partial: bool) -> Any:
        out = [self.value(each, item, f"{what}[{n}]", partial=partial) for n, each in enumerate(self.items(node, what))]
        if isinstance(node, SequenceNode) and not low <= len(out) <= (high or len(out)):
            limit = f"at least {low}" if len(out) < low else f"at most {high}"
            self.say(node, f"{what} has {len(out)} items; write {limit}")
        return [each for each in out if each is not None]

    def _parsed(self, node: Node, reads: str, what: str) -> Any:
        if isinstance(node, ScalarNode) and _tag(node) in ("str", "int", "float", "timestamp"):
            try:
                return READS[reads].parse(node.value)
            except ValueError as error:
                self.say(node, f"{what}: {error}")
        else:
            self.say(node, f"{what} is {shown(node)}; write {WANTED[reads]}")
        return None

    def _whole(self, node: ScalarNode, about: inspect.IntType, what: str) -> int | None:
        if not _WHOLE.fullmatch(node.value):
            self.say(node, f"{what} is {shown(node)}; write a plain decimal number")
            return None
        number = int(node.value)
        if (about.ge is not None and number < about.ge) or (about.le is not None and number > about.le):
            self.say(node, f"{what} is {number}; write {wanted(about)}")
            return None
        return number

    def _number(self, node: Node, what: str, wrapped: inspect.Type) -> float | None:
        if isinstance(node, ScalarNode) and _NUMBER.fullmatch(node.value) and math.isfinite(float(node.value)):
            return float(node.value)
        self.say(node, f"{what} is {shown(node)}; write {wanted(wrapped)}")
        return None

    def _text(self, node: ScalarNode, kind: Kind, what: str) -> str | None:
        about = kind.type
        assert isinstance(about, inspect.StrType)  # noqa: S101  (value() asks for nothing else)
        text: str = node.value
        if about.pattern is not None and not re.search(about.pattern, text):
            self.say(node, f"{what} cannot be {shown(node)}; write {_LOOKS.get(about.pattern, about.pattern)}")
        elif len(text.strip()) < (about.min_length or 0):
            self.say(node, f"{what} says nothing; write {kind.description or 'a text'}")
        elif about.max_length is not None and len(text) > about.max_length:
            self.say(node, f"{what} is {len(text)} characters long; write at most {about.max_length}")
        else:
            return text
        return None


class Keys:
    """The keys that a mapping has. `nodes`: their values, by key."""

    def __init__(self, reader: Reader, form: type[Struct], prefix: str, partial: bool) -> None:
        self.nodes: dict[str, Node] = {}
        self._reader, self._form, self._prefix, self._partial = reader, form, prefix, partial

    def get(self, key: str) -> Any:
        """Its value; the default if it is absent, and None if that is a problem."""
        about = fields_of(self._form)[key]
        if key in self.nodes:
            return self._reader.value(self.nodes[key], about.type, f"{self._prefix}{key}", partial=self._partial)
        default = default_of(about)
        return None if default is NODEFAULT else default

    def values(self) -> dict[str, Any]:
        """All values, by the names of the type's fields."""
        return {each.name: self.get(key) for key, each in fields_of(self._form).items()}


def line_of(node: Node) -> int:
    """Where the node begins; the first line is 1."""
    return int(node.start_mark.line) + 1


def shown(node: Node) -> str:
    """A value in a sentence."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    if node.tag.startswith("!") or _tag(node) not in ("null", "bool", "int", "float", "str", "timestamp"):
        return f"something that is not read here ({node.tag.removeprefix('tag:yaml.org,2002:')})"
    if not node.value:
        return "empty"
    if _tag(node) in ("int", "float"):
        return f"the number {_cut(node.value)}"
    return _quoted(node.value) if _tag(node) in ("str", "timestamp") else _cut(node.value)


WANTED: dict[str, str] = {
    "duration": "a duration, such as 250ms, 1.5s, 2m or 1h",
    "positive duration": "a duration, such as 250ms, 1.5s, 2m or 1h",
    "signed duration": "a duration, such as 1h or -1h",
    "range": "a duration or a range of them, such as 5ms..80ms",
    "percent": "a share, such as 10%",
    "indices": 'numbers and ranges, such as "3,17-24"',
    "indices or none": 'numbers and ranges, such as "3,17-24", or none',
    "bound": "a number, or {min: …, max: …}",
    "patch": "a mapping, as in spec of the Gang",
}


def wanted(wrapped: inspect.Type) -> str:
    """What to write, such as `a whole number from 1 to 255`."""
    kind = kind_of(wrapped)
    if kind.reads in WANTED:
        return WANTED[kind.reads]
    match kind.type:
        case inspect.IntType(ge=low, le=high) if low is not None and high is not None:
            return f"a whole number from {low} to {high}"
        case inspect.IntType(ge=low) if low is not None:
            return f"a whole number, at least {low}"
        case inspect.IntType():
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return any_of(str(value) for value in values if value)
        case inspect.StructType(cls=form):
            return _mapping(form)
        case inspect.DictType():
            return "a mapping"
        case inspect.ListType():
            return "a list"
        case _:
            return "a text"


def _mapping(form: type[Struct]) -> str:
    known = list(fields_of(form))
    return f"a mapping with keys such as {any_of(known[:3])}" if known else "{}"


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoted(text: str) -> str:
    return f'"{_cut(text)}"'


def _quotes(node: Node, about: inspect.Type) -> str:
    scalar = isinstance(node, ScalarNode) and isinstance(about, inspect.StrType)
    return " (in quotes, if this is what you mean)" if scalar else ""


def _close(word: str, known: Iterable[str]) -> list[str]:
    """The nearest of them, if it is near."""
    return difflib.get_close_matches(word, list(known), 1)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    return "".join(f'did you mean "{close}"?' for close in _close(word, known))
