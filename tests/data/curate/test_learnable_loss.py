"""Texts that are hard, yet learnable: known by heart and noise score low, what is uncertain scores high."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import GivenRows, save_tiny_model
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.curate.learnable_loss import LearnableLoss, learnable_loss
from warmstart.data.curate.model_loss import LossScorer
from warmstart.data.curate.select import Select
from warmstart.data.curated import curated
from warmstart.models.load import load_model
from warmstart.models.tokenizer import load_tokenizer
from warmstart.recipe_data import Data

KNOWN = (np.full(9, 0.01), np.zeros(9))
HARD = (np.full(9, 2.0), np.full(9, 4))
NOISE = (np.full(9, 9.0), np.full(9, 300))


def test_three_kinds_of_text() -> None:
    known, hard, noise = (learnable_loss(*kind, k=10) for kind in (KNOWN, HARD, NOISE))
    assert (known, hard, noise) == pytest.approx((0.01, 2.0, 0.0))
    assert learnable_loss(*NOISE, k=10, outside="drop") == 0.0
    mixed = tuple(np.concatenate(pair) for pair in zip(HARD, NOISE, strict=True))
    assert learnable_loss(*mixed, k=10, outside="drop") == 2.0
    assert learnable_loss(*NOISE, k=301, outside="drop") == 9.0


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 20)), min_size=1, max_size=30))
def test_it_is_the_median_with_zeros_outside(tokens: list[tuple[float, int]]) -> None:
    losses, ranks = np.array([t[0] for t in tokens]), np.array([t[1] for t in tokens])
    expected = sorted(loss if rank < 10 else 0.0 for loss, rank in tokens)
    assert learnable_loss(losses, ranks, 10) == pytest.approx(np.median(expected))


def test_ranks_are_the_models_own(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    scorer = LossScorer(load_model(folder, "causal"), load_tokenizer(folder), length=20, batch_size=3)
    text = "Ann sees boats."
    [(_, ranks)], _ = scorer.losses_and_ranks([text])
    ids = [scorer._begin, *scorer.tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logits = scorer.model(input_ids=torch.tensor([ids])).logits[0, :-1]
    order = logits.argsort(dim=1, descending=True)
    assert ranks.tolist() == [(order[n] == ids[n + 1]).nonzero().item() for n in range(len(ids) - 1)]


def test_the_highest_are_selected_and_the_cost_is_counted(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "m")
    rows = [{"text": f"Ann sees {n} boats. Bob likes cats {n}."} for n in range(12)]
    steps = [LearnableLoss(model=str(folder), length=32), Select(order="highest", budget={"documents": 5})]
    data = Data(source="python-stdlib").model_copy(update={"source": GivenRows(given=rows), "curate": steps})
    found = curated(data, cache_dir=tmp_path)
    kept = [row for batch in found.batches(0) for row in batch["text"]]
    assert len(kept) == len(set(kept)) == 5
    assert found.counts["learnable_loss_flops"] > 0
