"""Does a model of code know an API? Greedy accuracy at the names that programs ask of a library's modules.

In a held-out Python file, `nx` of `import networkx as nx` is the library's, and so is every name after a dot behind it:
`nx.shortest_path`, `nx.utils.arbitrary_element`. Which names those are is found with `ast` from the file's own imports.
The model reads the true text before each token of such a name; right is a token that it would give first.

Documents are put together again from consecutive blocks, so that a file may be longer than one; a document that is cut
or cannot be parsed is left out. A name whose first token also holds the dot, or begins a block, is left out too.

Source: the task "API call" of "On the Usage of Continual Learning for Out-of-Distribution Generalization in Pre-trained
Language Models of Code" (arXiv 2305.04106), with a greedy guess in the place of ten samples.
"""

from __future__ import annotations

import ast
import re
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.data.batch.blocks import Blocks
from warmstart.errors import DataError, ModelError, nearest
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.held_out import evaluation_mode

if TYPE_CHECKING:
    from warmstart.data.prepare import Prepared

_known: dict[tuple[Any, ...], list[Target]] = {}
"""What was found in a set, by its fingerprint and what was asked: the same at every evaluation of all stages."""
LINE_END = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")  # where Python's lines end; `splitlines` knows more ends


def api_names(text: str, modules: Sequence[str]) -> list[tuple[int, int]]:
    """Where the names stand that a program asks of some modules: `(first, end)` in characters, without the dot.

    Args:
        modules: top-level modules, e.g. `networkx`; `.` stands for whatever is imported relatively.

    Returns:
        In the order of the text; empty where it is not Python.

    Example:
        What stands behind the module's name, not behind a call's result::

            places = api_names("import networkx as nx; nx.Graph().size()", ["networkx"])  # [(26, 31)], `Graph`
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    bound = {name for node in ast.walk(tree) for name in _bound_by(node, modules)}
    starts = np.cumsum([0, *(len(line.encode()) for line in LINE_END.split(text))])
    place_of = _characters(text)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _root(node) in bound and node.end_lineno and node.end_col_offset:
            end = int(starts[node.end_lineno - 1]) + node.end_col_offset
            first, last = place_of[end - len(node.attr.encode())], place_of[end]
            if text[first:last] == node.attr:
                found.append((first, last))
    return sorted(found)


def _bound_by(node: ast.AST, modules: Sequence[str]) -> Iterator[str]:
    """The names that an import of one of the modules binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] in modules:
                yield alias.asname or alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom):
        origin = "." if node.level else (node.module or "").split(".")[0]
        if origin in modules:
            yield from (alias.asname or alias.name for alias in node.names)


def _root(node: ast.expr) -> str | None:
    """`a` of `a.b.c`; None where the chain begins with anything but a name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _characters(text: str) -> list[int]:
    """For each byte of the text in UTF-8, and its end, the number of the character."""
    return [n for n, character in enumerate(text) for _ in character.encode()] + [len(text)]


@dataclass(frozen=True)
class Target:
    """A token to be guessed: its block and place there, and the number of the name that it is a part of."""

    block: int
    place: int
    name: int


def targets_of(blocks: Blocks, tokenizer: Any, modules: Sequence[str], limit: int) -> list[Target]:
    """The tokens of API names in the first `limit` blocks."""
    found: list[Target] = []
    names = 0
    for places, ids in _documents(blocks, tokenizer, limit):
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        again = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if again["input_ids"] != ids:
            continue
        offsets = again["offset_mapping"]
        for first, end in api_names(text, modules):
            begin = bisect_left(offsets, (first, first))
            tokens = range(begin, bisect_left(offsets, (end, end), begin))  # those that begin inside the name
            whole = bool(tokens) and offsets[tokens[0]][0] == first and offsets[tokens[-1]][1] == end
            if whole and all(places[n][1] > 0 for n in tokens):
                found += [Target(*places[n], names) for n in tokens]
                names += 1
    return found


def _documents(blocks: Blocks, tokenizer: Any, limit: int) -> Iterator[tuple[list[tuple[int, int]], list[int]]]:
    """Each whole document of the first blocks: (block, place) of its tokens, and the tokens, without special ones."""
    special, end = set(tokenizer.all_special_ids), tokenizer.eos_token_id
    places: list[tuple[int, int]] = []
    ids: list[int] = []
    for number in range(min(limit, len(blocks))):
        row = blocks[number]
        tokens = row["tokens"].tolist()
        for place in np.flatnonzero(row["documents"] >= 0).tolist():
            if tokens[place] == end:
                yield places, ids
                places, ids = [], []
            elif tokens[place] not in special:
                places.append((number, place))
                ids.append(tokens[place])


def guesses(model: nn.Module, rows: Sequence[dict[str, np.ndarray]], precision: str) -> torch.Tensor:
    """The most likely next token at every place of some blocks: int64 `(rows, length)` on the CPU."""
    device = next(model.parameters()).device
    tokens, positions = (
        torch.from_numpy(np.stack([row[c] for row in rows])).to(device) for c in ("tokens", "positions")
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        return model(input_ids=tokens, position_ids=positions, use_cache=False).logits.argmax(dim=-1).cpu()


class ApiCalls(Evaluator):
    """`<set>/api_accuracy`: share of the tokens of API names that are guessed right; `<set>/api_names`: of names."""

    type: Literal["api-calls"] = "api-calls"
    modules: Annotated[dict[str, list[str]], Field(min_length=1)] = Field(
        description="Which top-level modules belong to each held-out set; `.`: those that are imported relatively."
    )
    tokens: Annotated[int, Field(gt=0)] = Field(65536, description="Read at most so many tokens of each set.")
    batch_size: Annotated[int, Field(gt=0)] = Field(32, description="Blocks per batch.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        if subject.objective.head != "causal":
            raise ModelError("evaluator api-calls: needs a causal model, which says what comes next")
        sets = {"validation": subject.data, **subject.also}
        values: dict[str, float] = {}
        for name, modules in self.modules.items():
            if name not in sets:
                raise DataError(
                    f"evaluator api-calls: there is no held-out set '{name}'{nearest(name, sets)}; sets: "
                    f"{', '.join(sets)}"
                )
            values |= self._of_set(subject, name, sets[name], modules)
        return values

    def _of_set(self, subject: Subject, name: str, data: Prepared, modules: Sequence[str]) -> dict[str, float]:
        right: dict[tuple[int, int], list[bool]] = {}
        with evaluation_mode(subject.model):
            for source, blocks in enumerate(data.validation):
                if not len(blocks):
                    continue
                limit = max(1, self.tokens // blocks.length // len(data.validation))
                key = (data.fingerprint, source, *modules, limit)
                if key not in _known:
                    _known[key] = targets_of(blocks, subject.tokenizer, modules, limit)
                targets = _known[key]
                needed = sorted({target.block for target in targets})
                best: dict[int, torch.Tensor] = {}
                for start in range(0, len(needed), self.batch_size):
                    some = needed[start : start + self.batch_size]
                    rows = [blocks[block] for block in some]
                    best |= dict(zip(some, guesses(subject.model, rows, subject.precision), strict=True))
                for target in targets:
                    wanted = int(blocks[target.block]["tokens"][target.place])
                    hit = int(best[target.block][target.place - 1]) == wanted
                    right.setdefault((source, target.name), []).append(hit)
        if not right:
            raise DataError(
                f"evaluator api-calls: no whole document of the set '{name}' uses a name of {', '.join(modules)}; hold "
                "more out, or raise tokens"
            )
        hits = [hit for name_hits in right.values() for hit in name_hits]
        return {
            f"{name}/api_accuracy": sum(hits) / len(hits),
            f"{name}/api_names": sum(map(all, right.values())) / len(right),
        }
