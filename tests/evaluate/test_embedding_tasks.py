"""Retrieval and similarity of embeddings, and both at many sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs import held_out, pair_rows, subject
from pydantic import ValidationError
from scipy.stats import spearmanr
from tiny_encoders import encoder, tokenizer

from warmstart.errors import DataError, ModelError
from warmstart.evaluate.ranking import ranks_of_relevant, recall_at, reciprocal_rank
from warmstart.evaluate.retrieval import Retrieval
from warmstart.evaluate.similarity import Similarity, rank_correlation
from warmstart.evaluate.size_grid import SizeGrid
from warmstart.objectives.contrastive import Contrastive
from warmstart.objectives.starbucks_srl import StarbucksSRL


def vectors(model: Any, texts: list[str], layer: int, width: int, pooling: str = "mean") -> np.ndarray:
    """Each text alone."""
    found = []
    for text in texts:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([tokenizer()(text)["input_ids"]]), output_hidden_states=True)
        state = output.hidden_states[layer][0]
        found.append((state.mean(dim=0) if pooling == "mean" else state[0])[:width].numpy())
    return np.stack(found)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left / np.linalg.norm(left, axis=1, keepdims=True)) @ (
        right / np.linalg.norm(right, axis=1, keepdims=True)
    ).T


def test_retrieval_is_that_of_every_text_alone(tmp_path: Path) -> None:
    rows = pair_rows(20)
    rows[3]["positive"] = rows[7]["positive"]  # one document for two queries
    model = encoder(head="embedding").train()
    given = subject(rows, tmp_path, model)
    order = [row["id"] for row in (given.data.validation[0][n] for n in range(len(given.data.validation[0])))]
    kept = [next(row for row in rows if row["id"] == one) for one in order]
    documents = list(dict.fromkeys(row["positive"] for row in kept))
    assert len(documents) < len(kept)
    values = Retrieval(k=3, batch_size=6).evaluate(given)
    assert model.training  # as it was
    scores = cosines(vectors(model, [row["text"] for row in kept], 2, 32), vectors(model, documents, 2, 32))
    ranks = ranks_of_relevant(scores, [[documents.index(row["positive"])] for row in kept])
    assert values["retrieval/recall@3"] == pytest.approx(recall_at(ranks, 3))
    assert values["retrieval/mrr@3"] == pytest.approx(reciprocal_rank(ranks, 3))
    assert set(values) == {"retrieval/recall@3", "retrieval/mrr@3", "retrieval/ndcg@3"}


def test_a_model_is_judged_as_it_was_trained(tmp_path: Path) -> None:
    rows, model = pair_rows(25), encoder(head="embedding").eval()
    cls = StarbucksSRL()  # cls, dot products
    given = subject(rows, tmp_path, model, cls)
    kept = [given.data.validation[0][n] for n in range(len(given.data.validation[0]))]
    texts = [[row[c] for row in kept] for c in ("text", "positive")]
    first, second = (vectors(model, some, 2, 32, "cls") for some in texts)
    wanted = spearmanr((first * second).sum(axis=1), [row["score"] for row in kept]).statistic
    assert Similarity().evaluate(given)["similarity/spearman"] == pytest.approx(wanted, abs=1e-6)
    said = Similarity(pooling="mean", normalise="cut").evaluate(given)
    assert said == Similarity().evaluate(subject(rows, tmp_path, model, Contrastive()))
    assert said != Similarity().evaluate(given)
    assert rank_correlation(np.zeros(3), np.arange(3)) == 0.0
    assert rank_correlation(np.array([1, 5, 9]), np.array([0.1, 0.2, 0.3])) == pytest.approx(1)


def test_the_grid_is_each_size_alone(tmp_path: Path) -> None:
    rows, model = pair_rows(30), encoder(head="embedding", num_hidden_layers=3).eval()
    given = subject(rows, tmp_path, model)
    kept = [given.data.validation[0][n] for n in range(len(given.data.validation[0]))]
    sizes = [(1, 4), (2, 9), (3, 32)]
    values = SizeGrid(of={"type": "retrieval", "k": 5}, sizes=sizes).evaluate(given)
    for layer, width in sizes:
        queries, documents = (vectors(model, [row[c] for row in kept], layer, width) for c in ("text", "positive"))
        ranks = ranks_of_relevant(cosines(queries, documents), [[n] for n in range(len(kept))])
        assert values[f"size-grid/{layer}x{width}/recall@5"] == pytest.approx(recall_at(ranks, 5))
    small = [values["size-grid/1x4/mrr@5"], values["size-grid/2x9/mrr@5"]]
    assert values["size-grid/small/mrr@5"] == pytest.approx(sum(small) / 2)
    assert values["size-grid/least/mrr@5"] == min(small)
    whole = Retrieval(k=5).evaluate(given)["retrieval/recall@5"]
    assert values["size-grid/3x32/recall@5"] == pytest.approx(whole)
    assert {name.split("/")[1] for name in SizeGrid().evaluate(given)} == {"1x8", "2x16", "3x32", "small", "least"}
    assert SizeGrid(of="similarity", sizes=[(1, 4)]).evaluate(given)["size-grid/small/spearman"] is not None


def test_a_family_of_models_is_judged_as_one(tmp_path: Path) -> None:
    """Sizes that this model is not asked for are those of the last stage that was."""
    rows, model = pair_rows(20), encoder(head="embedding", num_hidden_layers=1)
    earlier = [{"size-grid/2x9/recall@10": 0.1}, {"size-grid/2x9/recall@10": 0.75, "size-grid/1x4/recall@10": 0.2}]
    grid = SizeGrid(sizes=[(1, 4)], small=[(1, 4), (2, 9)])
    alone = grid.evaluate(subject(rows, tmp_path, model))
    assert not any("small" in name for name in alone)
    values = grid.evaluate(subject(rows, tmp_path, model, history=earlier))
    now = values["size-grid/1x4/recall@10"]
    assert now == alone["size-grid/1x4/recall@10"] != 0.2
    assert values["size-grid/small/recall@10"] == pytest.approx((0.75 + now) / 2)
    assert values["size-grid/least/recall@10"] == min(0.75, now)
    assert "size-grid/2x9/recall@10" not in values
    assert not any("mrr" in name and "small" in name for name in values)


def test_another_held_out_set_and_fewer_rows(tmp_path: Path) -> None:
    other = held_out(pair_rows(40, seed=3), tmp_path)
    given = subject(pair_rows(10), tmp_path, also={"sts": other})
    task = Retrieval(held_out="sts", rows=7).task(given)
    assert len(task.left) == 7
    assert set(task.left) <= {other.validation[0][n]["text"] for n in range(len(other.validation[0]))}
    with pytest.raises(DataError, match=r"no held-out set 'stz' \(did you mean 'sts'\?\); sets: validation, sts"):
        Retrieval(held_out="stz").task(given)


def test_what_cannot_be(tmp_path: Path) -> None:
    given = subject(pair_rows(10), tmp_path)
    with pytest.raises(DataError, match=r"no column 'positve' \(did you mean 'positive'"):
        Retrieval(positive="positve").evaluate(given)
    with pytest.raises(DataError, match="the column 'text' must hold numbers"):
        Similarity(score="text").evaluate(given)
    with pytest.raises(ModelError, match=r"size \[3, 4\] of a model of \[2, 32\]"):
        SizeGrid(sizes=[(3, 4)]).evaluate(given)
    with pytest.raises(ValidationError, match="'held-out' does not look at embeddings"):
        SizeGrid(of="held-out", sizes=[(1, 4)])
    given.data.validation = [[{"tokens": np.zeros(4)}]]
    with pytest.raises(DataError, match=r"set data\.packing: rows"):
        Retrieval().evaluate(given)
