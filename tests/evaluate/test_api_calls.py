"""API names: found by a program's imports, also over several blocks, and guessed."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from warmstart.data.prepare import Prepared, prepare
from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.api_calls import ApiCalls, api_names, targets_of
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked
from warmstart.recipe_data import Data

PROGRAM = '''import networkx as nx
import os.path
from networkx.utils import pairwise as pw, misc
from . import networkx
from other import nx2

def run(G, é="ü.é"):
    """nx.not_this"""
    H = nx.Graph(G); é = nx.algorithms.dag.topological_sort(H)
    misc.flatten(os.path.join(nx2.name, H.name))
    return pw(G).send, networkx.no
'''


def names(text: str, *modules: str) -> list[str]:
    return [text[first:end] for first, end in api_names(text, modules)]


def test_names_of_a_program() -> None:
    assert names(PROGRAM, "networkx") == ["Graph", "algorithms", "dag", "topological_sort", "flatten"]
    assert names(PROGRAM, "os") == ["path", "join"]
    assert names(PROGRAM, "os", "other") == ["path", "join", "name"]
    assert names(PROGRAM, ".") == ["no"]
    assert names(PROGRAM, "nothing") == []


def test_the_docstrings_example() -> None:
    assert run_example(api_names, api_names=api_names)["places"] == [(26, 31)]


@pytest.mark.parametrize("text", ["", "import x\nx.", "print 'old'", "x = '\0'", "(" * 500])
def test_what_is_not_python_has_no_names(text: str) -> None:
    assert api_names(text, ["x"]) == []


@given(st.text(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_places_hold_whatever_stands_before(comment: str, end: str) -> None:
    line = "".join(c for c in repr(comment) if c not in "\r\n")
    text = f"import x{end}a = {line}; x.first{end}{end}x.y . second"
    if names(text, "x"):
        assert names(text, "x") == ["first", "y", "second"]
        assert text.isascii() or len(text.encode()) > len(text)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Any]:
    path = tmp_path_factory.mktemp("code") / "code.jsonl"
    calls = ["shortest_path", "Graph", "size", "dag"]
    programs = [
        f"import networkx as nx\n\ndef function_{n}(G):\n    return nx.{calls[n % 4]}(G, {n})\n"
        + "    # more\n" * (n % 7)
        for n in range(60)
    ]
    path.write_text("\n".join(json.dumps({"text": program}) for program in programs))
    tokenizer = train_tokenizer(programs, 300, "causal")
    settings = {"source": {"type": "files", "path": str(path)}, "length": 32, "split": {"validation": 0.4}}
    return prepare(Data.model_validate(settings), tokenizer), tokenizer


class Oracle(nn.Module):
    """Says the true next token, but at some places."""

    def __init__(self, wrong: float) -> None:
        super().__init__()
        self.weight, self.wrong = nn.Parameter(torch.zeros(1)), wrong

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> Any:
        logits = torch.zeros(*input_ids.shape, 400)
        logits[:, :-1].scatter_(2, input_ids[:, 1:, None], 1.0)
        if self.wrong:
            logits[:, :, 399] = 2.0
        return SimpleNamespace(logits=logits)


def test_a_model_that_knows_and_one_that_does_not(code: Any) -> None:
    data, tokenizer = code
    task = ApiCalls(modules={"validation": ["networkx"]})
    for wrong, expected in ((0.0, 1.0), (1.0, 0.0)):
        model = Oracle(wrong).train()
        found = task.evaluate(Subject(model, tokenizer, Causal(), data, 0))
        assert found == {"validation/api_accuracy": expected, "validation/api_names": expected}
        assert model.training


def test_targets_are_the_names_and_documents_go_over_blocks(code: Any) -> None:
    data, tokenizer = code
    blocks = data.validation[0]
    targets = targets_of(blocks, tokenizer, ["networkx"], 1000)
    by_name: dict[int, list[int]] = {}
    for target in targets:
        assert target.place > 0
        by_name.setdefault(target.name, []).append(int(blocks[target.block]["tokens"][target.place]))
    told = [tokenizer.decode(ids) for ids in by_name.values()]
    assert set(told) <= {"shortest_path", "Graph", "size", "dag"}
    whole = sum(int((blocks[n]["tokens"] == tokenizer.eos_token_id).sum()) for n in range(len(blocks)))
    assert 0.7 * whole < len(told) <= whole  # all but those that begin a block
    assert len({target.block for target in targets}) > 5


def test_what_cannot_be_asked(code: Any) -> None:
    data, tokenizer = code
    model = Oracle(0.0)
    with pytest.raises(ModelError, match="needs a causal model"):
        ApiCalls(modules={"validation": ["x"]}).evaluate(Subject(model, tokenizer, Masked(), data, 0))
    with pytest.raises(DataError, match="no whole document of the set 'validation' uses a name of numpy"):
        ApiCalls(modules={"validation": ["numpy"]}).evaluate(Subject(model, tokenizer, Causal(), data, 0))
    with pytest.raises(DataError, match=r"there is no held-out set 'validatoin' \(did you mean 'validation'\?\)"):
        ApiCalls(modules={"validatoin": ["x"]}).evaluate(Subject(model, tokenizer, Causal(), data, 0))
