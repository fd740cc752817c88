"""Greedy answers, speculation and the cost of inference, of one model and of a composition."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "decode"))
from models import gpt2

from warmstart.decode.composed import Composed
from warmstart.decode.emulated import emulation
from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.answers import Answers
from warmstart.evaluate.held_out import HeldOut
from warmstart.evaluate.inference_cost import InferenceCost
from warmstart.evaluate.prompted import Prompted, left_padded, prompted_documents
from warmstart.evaluate.speculation import Speculation
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked


class Rows(list):
    """Blocks in memory."""

    length = 12

    def real_tokens(self, number: int) -> int:
        return int((self[number]["documents"] >= 0).sum())


def row(*documents: tuple[int, list[int]]) -> dict[str, np.ndarray]:
    """A block of documents `(tokens of context, ids)`."""
    tokens, owner, context, positions = [], [], [], []
    for number, (front, ids) in enumerate(documents):
        tokens += ids
        owner += [number] * len(ids)
        context += [place < front for place in range(len(ids))]
        positions += range(len(ids))
    filling = 12 - len(tokens)
    arrays = [tokens + [0] * filling, owner + [-1] * filling, context + [False] * filling]
    arrays.append([*positions, *range(filling)])
    return dict(zip(("tokens", "documents", "context", "positions"), map(np.array, arrays), strict=True))


ROWS = Rows(
    [row((2, [40, 41, 50, 51, 0]), (3, [42, 43, 44, 52, 0])), row((0, [60, 61]), (2, [45, 46]), (2, [47, 48, 53]))]
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(["a word and its meaning"] * 3, 280, "causal")


def subject(tokenizer: Any, model: Any, rows: Rows = ROWS, objective: Any = None) -> Subject:
    data: Any = SimpleNamespace(validation=[rows], source_names=["a"], bytes_per_token=3.0)
    return Subject(model, tokenizer, objective or Causal(), data, seed=0)


class Writer(torch.nn.Module):
    """Writes, after each prompt, what a table says for the prompt's last token."""

    def __init__(self, answers: dict[int, list[int]]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **settings: Any) -> torch.Tensor:
        assert not self.training
        self.asked.append(settings | {"mask": attention_mask.tolist(), "ids": input_ids.tolist()})
        longest = max(map(len, self.answers.values()))
        written = [self.answers[int(ids[-1])] for ids in input_ids]
        padded = [each + [settings["pad_token_id"]] * (longest - len(each)) for each in written]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)


def test_prompts_are_what_stands_before_a_text(tokenizer: Any) -> None:
    found = prompted_documents(subject(tokenizer, None), "validation", 10)
    assert found == [
        Prompted((40, 41), (50, 51, 0)),
        Prompted((42, 43, 44), (52, 0)),
        Prompted((47, 48), (53,)),
    ]
    assert prompted_documents(subject(tokenizer, None), "validation", 1) == found[:1]
    with pytest.raises(DataError, match="no document with a prompt"):
        prompted_documents(subject(tokenizer, None, Rows([row((0, [1, 2]))])), "validation", 1)
    with pytest.raises(DataError, match="no held-out set 'none'"):
        prompted_documents(subject(tokenizer, None), "none", 1)
    with pytest.raises(ModelError, match="causal"):
        prompted_documents(subject(tokenizer, None, objective=Masked()), "validation", 1)


def test_filling_stands_at_the_left() -> None:
    ids, mask = left_padded([(1, 2, 3), (4,)], 9, "cpu")
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_an_answer_counts_that_ends_and_matches(tokenizer: Any) -> None:
    word, line = (tokenizer(text).input_ids for text in (" word", "\n"))
    stop = [tokenizer.eos_token_id]
    size = 2 * len(word) + len(line) + 1
    model = Writer({41: word + stop, 44: (word * 9)[:size], 48: word + line + word + stop})
    found = Answers(batch_size=2).evaluate(subject(tokenizer, model))
    assert found["validation/format_rate"] == pytest.approx(1 / 3)  # one has no end, and one has two lines
    assert found["validation/answer_tokens"] == pytest.approx((len(word) + size + size - 1) / 3)
    first, second = model.asked
    assert first["mask"] == [[0, 1, 1], [1, 1, 1]]
    assert len(second["mask"]) == 1
    assert not first["do_sample"]
    every = Answers(pattern=r"(?s).*").evaluate(subject(tokenizer, model))
    assert every["validation/format_rate"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no regular expression"):
        Answers(pattern="(")


def test_evaluators_see_a_composition_as_one_model(tokenizer: Any) -> None:
    large, tuned, small = gpt2(0, width=32, vocabulary=280), gpt2(1, vocabulary=280), gpt2(2, vocabulary=280)
    model = Composed([large, tuned, small], emulation(1), drafter=1)
    seen = subject(tokenizer, model)
    loss = HeldOut().evaluate(seen)["validation/loss"]
    nats, targets = 0.0, 0
    for document in prompted_documents(seen, "validation", 10):
        found = model.scores([(torch.tensor([document.prompt]), None)] * 3, torch.tensor([document.answer]))
        nats, targets = nats - float(found.sum()), targets + found.numel()
    # held-out also reads the document without a prompt: its second token
    ids = torch.tensor([[60, 61]])
    nats, targets = nats - float(model(ids).logits[0, 0, 61]), targets + 1
    assert loss == pytest.approx(nats / targets, abs=1e-4)
    values = Answers(tokens=4).evaluate(seen)
    assert 0 <= values["validation/format_rate"] <= 1
    assert 0 <= values["validation/answer_tokens"] <= 4
    assert not any(model.training for model in (large, tuned, small))


def test_speculation_is_measured_and_repeatable(tokenizer: Any) -> None:
    large, tuned, small = (gpt2(seed, vocabulary=280) for seed in range(3))
    seen = subject(tokenizer, Composed([large, tuned, small], emulation(1), drafter=1))
    first = Speculation(tokens=9).evaluate(seen)
    assert 0 <= first["speculation/acceptance"] < 1
    assert 1 <= first["speculation/tokens_per_pass"] <= 5
    torch.manual_seed(9)
    assert Speculation(tokens=9).evaluate(seen) == first
    same = subject(tokenizer, Composed([small, tuned, small], emulation(1), drafter=1))
    assert Speculation(tokens=9).evaluate(same)["speculation/acceptance"] == 1
    with pytest.raises(ModelError, match=r"needs evaluate\.decode"):
        Speculation().evaluate(subject(tokenizer, large))


def test_a_composition_costs_what_its_models_cost(tokenizer: Any) -> None:
    large, tuned, small = gpt2(0, width=32, vocabulary=280), gpt2(1, vocabulary=280), gpt2(2, vocabulary=280)
    costs = [InferenceCost().evaluate(subject(tokenizer, model)) for model in (large, tuned, small)]
    whole = InferenceCost().evaluate(subject(tokenizer, Composed([large, tuned, small], emulation(1))))
    for name in ("inference/flops_per_token", "inference/parameters"):
        assert whole[name] == pytest.approx(sum(cost[name] for cost in costs))  # N + 2 S
    assert costs[1]["inference/parameters"] == sum(parameter.numel() for parameter in tuned.parameters())
    assert costs[0]["inference/flops_per_token"] > costs[1]["inference/flops_per_token"] > 0
