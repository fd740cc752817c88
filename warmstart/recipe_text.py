"""YAML text to plain values, with the place of every value.

Safe by construction: only text, numbers, true/false, null, lists and mappings come out; no tag makes an object. Three
traps of YAML 1.1 are closed: `3e13` is a number (the standard reader takes it for text), a key that is written twice
is an error (the standard reader keeps the last one in silence), and a few lines of aliases cannot unfold into
gigabytes. How much there may be is counted while it is read, so that a file that is too big costs no more than one
that is just small enough. This module knows nothing of recipes and imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from warmstart.errors import RecipeError

Steps = tuple[Any, ...]
"""The way to a value: mapping keys and list positions, e.g. `("stages", 0, "budget", "steps")`."""

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
"""Values with all aliases written out; the largest packaged study has 1,747."""
MAX_DEPTH = 50
"""Lists and mappings inside of each other."""
WHOLE_NUMBERS = range(-(2**63), 2**64)

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+)$")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$"
    r"|\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    """Builds the tree of nodes, and gives up where it becomes too big or too deep."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self._name, self._nodes, self._depth = name, 0, 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        line = self.peek_event().start_mark.line + 1
        if self._nodes > MAX_NODES:
            raise RecipeError(f"{self._name}:{line}: more than {MAX_NODES:,} values; that is no recipe")
        if self._depth > MAX_DEPTH:
            raise RecipeError(f"{self._name}:{line}: {_TOO_DEEP}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_TOO_DEEP = f"nested too deeply to be a recipe (more than {MAX_DEPTH} lists and mappings inside of each other)"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Text in quotes where we (`3e13`) or other readers of YAML (`010`) would take it for a number."""
    ours = dumper.resolve(yaml.ScalarNode, text, (True, False))
    others = _STANDARD.resolve(yaml.ScalarNode, text, (True, False))
    plain = ours == others == f"{_TAG}str"
    if set(text) & set("\r\x85\u2028\u2029\ufeff"):
        style: str | None = '"'  # the only style that keeps these line breaks as they are
    elif "\n" in text:
        style = "|"
    else:
        style = None if plain else "'"
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_STANDARD = yaml.resolver.Resolver()
_Dumper.add_representer(str, _text_node)

# Both sides decide in the same way what a plain scalar is, so that what is written reads back as it was.
for _side in (_Loader, _Dumper):
    _side.yaml_implicit_resolvers = {}
    _side.add_implicit_resolver(
        f"{_TAG}bool", re.compile(r"(?:yes|no|true|false|on|off)$", re.IGNORECASE), list("yYnNtTfFoO")
    )
    _side.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
    _side.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))
    _side.add_implicit_resolver(f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    _side.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<$"), ["<"])


@dataclass(frozen=True)
class Document:
    """A file's values and where they are.

    Attributes:
        name: the file as it is called in messages.
        values: plain values.
        places: (line, column) of every value, from 1; for a value of a mapping, the place of its key.
    """

    name: str
    values: Any
    places: dict[Steps, tuple[int, int]]


def read_file(path: Path) -> Document:
    """The values of a YAML file.

    Raises:
        RecipeError: no such file, a folder, too big, not UTF-8, not YAML, a key twice, a tag, or
            too many aliases.
    """
    if path.is_dir():
        raise RecipeError(f"{path} is a folder; expected a YAML file")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"there is no file '{path}'") from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB; a recipe is a small text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RecipeError(
            f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from None
    return read_text(text, str(path))


def read_text(text: str, name: str) -> Document:
    """The values of a YAML text; `name` is what messages call it.

    Raises:
        RecipeError: as `read_file`.
    """
    try:
        loader = _Loader(text, name)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
        if root is None:
            return Document(name, None, {(): (1, 1)})
        _check_size(root, name)
        places = {(): _place(root)}
        return Document(name, _value(root, (), places, name), places)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        hint = "; YAML indents with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
        raise RecipeError(f"{where}: not YAML: {error.problem or error.context}{hint}") from None
    except ValueError as error:  # \U00110000 in quotes: no such character
        raise RecipeError(f"{name}: not YAML: {error}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise RecipeError(f"{name}:{line}: not YAML: a control character ({error.reason})") from None


def write_text(values: Any) -> str:
    """Plain values as YAML text that `read_text` reads back to equal values; keys keep their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _fail(name: str, node: yaml.Node, message: str) -> RecipeError:
    return RecipeError(f"{name}:{_place(node)[0]}: {message}")


def _check_size(root: yaml.Node, name: str) -> None:
    """Counts nodes and levels as if every alias were written out; an alias inside its own anchor has no end."""
    sizes: dict[int, tuple[int, int]] = {}
    inside: set[int] = set()

    def size(node: yaml.Node, above: int) -> tuple[int, int]:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in inside:
            raise _fail(name, node, "an alias refers to something that contains it")
        if above > MAX_DEPTH:
            raise _fail(name, node, _TOO_DEEP)
        inside.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        found = [size(child, above + 1) for child in children]
        inside.discard(id(node))
        sizes[id(node)] = 1 + sum(count for count, _ in found), 1 + max((depth for _, depth in found), default=0)
        return sizes[id(node)]

    count, depth = size(root, 1)
    if count > MAX_NODES:
        raise _fail(name, root, f"its aliases unfold to more than {MAX_NODES:,} values; that is no recipe")
    if depth > MAX_DEPTH:
        raise _fail(name, root, _TOO_DEEP)


def _value(node: yaml.Node, steps: Steps, places: dict[Steps, tuple[int, int]], name: str) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, name)
    if node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
        raise _fail(name, node, _no_tag(node.tag))
    if isinstance(node, yaml.SequenceNode):
        result = []
        for number, child in enumerate(node.value):
            places[(*steps, number)] = _place(child)
            result.append(_value(child, (*steps, number), places, name))
        return result
    mapping: dict[Any, Any] = {}
    for key, (key_node, value_node) in _pairs(node, name).items():
        places[(*steps, key)] = _place(key_node)
        mapping[key] = _value(value_node, (*steps, key), places, name)
    return mapping


def _pairs(node: yaml.Node, name: str) -> dict[Hashable, tuple[yaml.Node, yaml.Node]]:
    """A mapping's keys with their nodes, what `<<` merges in first; the mapping's own keys win."""
    own: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
    merged: dict[Hashable, tuple[yaml.Node, yaml.Node]] = {}
    for key_node, value_node in node.value:
        if key_node.tag == f"{_TAG}merge":
            several = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for other in several:
                if not isinstance(other, yaml.MappingNode):
                    raise _fail(name, other, "'<<' takes a mapping (an alias of one) or a list of mappings")
                for key, pair in _pairs(other, name).items():
                    merged.setdefault(key, pair)
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise _fail(name, key_node, "a key must be text, found a list or a mapping")
        key = _scalar(key_node, name)
        if key in own:
            first = _place(own[key][0])[0]
            raise _fail(
                name, key_node, f"the key '{str(key)[:100]}' is already given in line {first}; keep one of them"
            )
        own[key] = (key_node, value_node)
    return {**merged, **own}


def _scalar(node: yaml.ScalarNode, name: str) -> Any:
    text = node.value
    plain = text.replace("_", "")
    try:
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text if text.isascii() else _whole_characters(text, node, name)
            case "null":
                return None
            case "bool":
                return {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}[text.lower()]
            case "int":
                return _whole_number(int(plain, 0), node, name)
            case "float":
                return float(plain.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except (ValueError, KeyError):
        raise _fail(name, node, f"'{text[:40]}' is not a value of the type {node.tag.removeprefix(_TAG)}") from None
    raise _fail(name, node, _no_tag(node.tag))


def _whole_characters(text: str, node: yaml.Node, name: str) -> str:
    """The text with the two halves of a character (`\\ud83d\\ude00`, as JSON writes them) put together."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _fail(name, node, "half a character (a single surrogate); write the whole one") from None


def _whole_number(value: int, node: yaml.Node, name: str) -> int:
    if value not in WHOLE_NUMBERS:
        raise _fail(name, node, "a whole number of more than 64 bits; write it with an exponent (1e30) or in quotes")
    return value


def _no_tag(tag: str) -> str:
    shown = tag.replace(_TAG, "!!")
    return f"the tag '{shown}' is not allowed; use text, numbers, true/false, null, lists and mappings"
