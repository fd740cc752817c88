"""Losses of a small model: those of the model itself, whatever the neighbours, and what they cost."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from corpora import save_tiny_model

from warmstart.data.curate.model_loss import LossScorer, ModelLoss
from warmstart.data.curated import curated
from warmstart.data.documents import all_documents
from warmstart.data.engine import Engine
from warmstart.data.steps import Chain, Counted
from warmstart.errors import DataError, ModelError
from warmstart.models.load import load_model
from warmstart.models.tokenizer import load_tokenizer
from warmstart.recipe_data import Data

TEXTS = ["Ann sees boats.", "one", "Bob likes cats. " * 9, "two three", "Ann sees boats.", "six five four " * 4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def scorer(folder: Path) -> LossScorer:
    return LossScorer(load_model(folder, "causal"), load_tokenizer(folder), length=20, batch_size=3)


def test_the_losses_are_the_models_own(scorer: LossScorer) -> None:
    found, _ = scorer.losses(TEXTS)
    for text, losses in zip(TEXTS, found, strict=True):
        ids = scorer.tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = []
        for start in range(0, len(ids), 19):
            window = torch.tensor([[scorer._begin, *ids[start : start + 19]]])
            with torch.no_grad():
                logits = scorer.model(input_ids=window).logits[0, :-1].double()
            expected += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none").tolist()
        assert len(losses) == len(ids)
        np.testing.assert_allclose(losses, expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_score_does_not_depend_on_the_neighbours_in_any_bit(scorer: LossScorer, order: list[int], batch: int) -> None:
    whole, cost = scorer.losses(TEXTS)
    total = 0
    for start in range(0, 6, batch):
        rows = order[start : start + batch]
        some, flops = scorer.losses([TEXTS[row] for row in rows])
        total += flops
        for row, losses in zip(rows, some, strict=True):
            assert losses.tobytes() == whole[row].tobytes()
    assert total == cost


def test_flops_are_those_of_the_matrix_products(scorer: LossScorer) -> None:
    config = scorer.model.config
    tokens, width, vocabulary = 16, config.n_embd, config.vocab_size
    per_layer = 2 * tokens * 12 * width * width + 2 * tokens * tokens * 2 * width
    assert scorer.losses(["one"])[1] == config.n_layer * per_layer + 2 * tokens * width * vocabulary


def test_the_part_writes_scores_and_counts_flops(folder: Path) -> None:
    step = ModelLoss(model=str(folder), length=20, batch_size=3, hard=5.7)
    rows = {"text": TEXTS, "row": list(range(6)), "source": ["a"] * 6, "id": list("abcdef")}
    found = step.apply(rows)
    scorer = LossScorer(load_model(folder, "causal"), load_tokenizer(folder), 20, 3)
    losses, flops = scorer.losses(TEXTS)
    assert found["score"] == [pytest.approx(float(one.mean()), abs=1e-6) for one in losses]
    assert found["hard_tokens"] == [float(np.mean(one > 5.7)) for one in losses]
    assert 0 < sum(found["hard_tokens"]) < 6
    assert isinstance(found, Counted)
    assert found.counts == {"flops": flops}
    assert Chain([("model_loss", step.apply)])(rows).counts["model_loss_flops"] == flops


def test_flops_arrive_in_the_statistics_and_do_not_depend_on_batches(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    source = {"type": "files", "path": str(tmp_path / "a.txt"), "documents": "line"}
    data = Data.model_validate(
        {"source": source, "curate": [{"type": "model-loss", "model": str(folder), "length": 20}]}
    )
    counts = [
        curated(data, cache_dir=tmp_path / str(batch), engine=Engine(batch=batch)).counts["model_loss_flops"]
        for batch in (1, 4)
    ]
    statistics: Counter[str] = Counter()
    scores = [document.score for document in all_documents(data, statistics, cache_dir=tmp_path / "1")]
    assert statistics["model_loss_flops"] == counts[0] == counts[1] > 0
    assert all(score is not None and score > 0 for score in scores)


def test_bad_input_is_told(folder: Path, scorer: LossScorer) -> None:
    with pytest.raises(DataError, match="no token to score"):
        scorer.losses([""])
    with pytest.raises(ModelError, match="length 64 is more than the model's 32 positions"):
        ModelLoss(model=str(folder), length=64).apply({"text": ["a"]})
    with pytest.raises(ModelError, match="no model folder"):
        ModelLoss(model=str(folder / "none")).apply({"text": ["a"]})


def test_the_key_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    step = ModelLoss(model=str(folder))
    before = step.key()
    assert before == ModelLoss(model=str(folder), device="cpu").key() != ModelLoss(model=str(folder), length=64).key()
    other = save_tiny_model(tmp_path / "other")
    assert ModelLoss(model=str(other)).key() == before
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert ModelLoss(model=str(other)).key() != before
