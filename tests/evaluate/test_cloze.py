"""The cloze task: its questions, its scores, and that it can tell a model that knows from one that does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from corpora import write_corpus
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from warmstart.data.prepare import prepare
from warmstart.errors import DataError, ModelError
from warmstart.evaluate import Subject
from warmstart.evaluate.cloze import Cloze, continuation_scores, draw_questions, spans_of
from warmstart.models.tokenizer import train_tokenizer
from warmstart.objectives.causal import Causal
from warmstart.objectives.masked import Masked
from warmstart.recipe_data import Data


def subject_of(model: nn.Module, data: Any, objective: Any = None) -> Subject:
    return Subject(model, None, objective or Causal(), data, 0)


@pytest.fixture
def data(tmp_path: Path) -> Any:
    path = write_corpus(tmp_path / "a.jsonl", 200)
    tokenizer = train_tokenizer(["Ann sees apples."], 260, "causal")
    settings = {"source": {"type": "files", "path": str(path)}, "length": 64, "split": {"validation": 0.4}}
    return prepare(Data.model_validate(settings), tokenizer)


class Oracle(nn.Module):
    """Knows the true continuations: gives each token of a held-out document after the one before it."""

    def __init__(self, spans: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.known = {tuple(span[:t]): int(span[t]) for span in spans for t in range(1, len(span))}

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        logits = torch.zeros(*input_ids.shape, 300)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                token = self.known.get(tuple(ids[: place + 1]))
                if token is not None:
                    logits[row, place, token] = 20.0
        return SimpleNamespace(logits=logits)


def test_a_model_that_knows_and_one_that_does_not(data: Any) -> None:
    task = Cloze(items=40, context=8, continuation=4)
    spans, _ = spans_of(data, 12)
    assert task.evaluate(subject_of(Oracle(spans), data))["validation/cloze"] == pytest.approx(1.0, abs=0.1)
    torch.manual_seed(0)
    ignorant = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_layer=1, n_embd=16, n_head=2, n_positions=64))
    assert task.evaluate(subject_of(ignorant, data))["validation/cloze"] < 0.6


def test_the_same_questions_each_time_and_other_ones_at_another_seed(data: Any) -> None:
    _, owners = spans_of(data, 12)
    first = draw_questions(owners, 20, 4, np.random.default_rng(1))
    assert (first == draw_questions(owners, 20, 4, np.random.default_rng(1))).all()
    assert (first != draw_questions(owners, 20, 4, np.random.default_rng(2))).any()
    assert all(len(set(owners[question])) == 4 for question in first)
    assert len(set(first[:, 0])) == len(first)  # no question twice


def test_spans_lie_inside_one_document(data: Any) -> None:
    spans, owners = spans_of(data, 12)
    blocks = data.validation[0]
    pieces = {
        tuple(row["tokens"][row["documents"] == document][:12])
        for row in (blocks[n] for n in range(len(blocks)))
        for document in range(row["documents"].max() + 1)
    }
    assert {tuple(span) for span in spans} <= pieces
    assert len(np.unique(owners)) == len(owners)


def test_scores_are_sums_of_log_probabilities() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_layer=1, n_embd=16, n_head=2, n_positions=16)).train()
    candidates = torch.randint(30, (3, 2, 7))
    scores = continuation_scores(model, candidates, context=4)
    assert model.training
    model.eval()
    for item in range(3):
        for choice in range(2):
            chances = torch.log_softmax(model(candidates[item, choice][None]).logits[0], dim=-1).detach()
            expected = sum(float(chances[t - 1, candidates[item, choice, t]]) for t in (4, 5, 6))
            assert float(scores[item, choice]) == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_asked(data: Any) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_layer=1, n_embd=16, n_head=2))
    with pytest.raises(DataError, match="the set 'validation' has not 4 documents with 70 tokens"):
        Cloze(context=60, continuation=10).evaluate(subject_of(model, data))
    with pytest.raises(ModelError, match="needs a causal model"):
        Cloze().evaluate(subject_of(model, data, Masked()))
