"""Clustered token detection: how clusters are learned, what is drawn from them, and what the table counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tiny_encoders import alone, encoder, given_tokens, random_rows, tokenizer

from warmstart.errors import DataError, ModelError
from warmstart.objectives import Batch, Row
from warmstart.objectives.bidirectional import vocabulary_of
from warmstart.objectives.clustered_token_detection import (
    ClusteredTokenDetection,
    ClusterSampler,
    target_chances,
)
from warmstart.objectives.token_clusters import cluster_tokens, neighbours, word_vectors

MAP = np.array([-1, 0, 1, 0, -1, 2, 1, 2, 2, 0, 2, 2])  # clusters of 3, 2 and 5 tokens


def drawn(sampler: ClusterSampler, token: int, count: int = 60_000, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    draws = [torch.from_numpy(draw.random(count, dtype=np.float32)) for _ in range(2)]
    return sampler.substitutes(torch.full((count,), token), *draws).numpy()


def sampler_with(table: list[list[int]], beta: float = 2.0) -> ClusterSampler:
    sampler = ClusterSampler(MAP, beta)
    sampler.table.copy_(torch.tensor(table))
    return sampler


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_at_the_start_all_clusters_are_alike(beta: float) -> None:
    found = drawn(ClusterSampler(MAP, beta), token=5)
    assert set(found) == set(np.flatnonzero(MAP >= 0))  # special tokens never
    assert chisquare(np.bincount(MAP[found])).pvalue > 1e-3
    for cluster in range(3):  # and inside a cluster all tokens
        assert chisquare(np.bincount(found[MAP[found] == cluster])[np.flatnonzero(cluster == MAP)]).pvalue > 1e-3


@given(st.integers(0, 2**32))
def test_without_beta_the_counts_do_not_matter(seed: int) -> None:
    table = torch.from_numpy(np.random.default_rng(seed).integers(-(10**6), 10**6, size=(5, 5)))
    assert torch.equal(target_chances(table, 0.0), torch.full((5, 5), 0.2, dtype=torch.float64))


def test_a_dominating_cell_is_e_to_the_beta_times_as_likely() -> None:
    table = [[1, 1, 1], [-7, 1000, -7], [5, 4, -3]]
    chances = target_chances(torch.tensor(table), 2.0)
    assert (chances[1, 1] / chances[1, 0]).item() == pytest.approx(math.e**2, abs=1e-12)
    assert (chances[2, 0] / chances[2, 2]).item() == pytest.approx(math.e**2, abs=1e-12)
    assert chances[0].tolist() == pytest.approx([1 / 3] * 3)
    found = MAP[drawn(sampler_with(table), token=2)]  # token 2 is of cluster 1
    assert chisquare(np.bincount(found, minlength=3), chances[1].numpy() * len(found)).pvalue > 1e-3


@given(st.integers(0, 2**32), st.integers(-(10**9), 10**9), st.integers(1, 1000))
def test_each_row_is_scaled_by_itself(seed: int, shift: int, factor: int) -> None:
    """Adding to a row, or stretching it, changes nothing; and other rows have no say."""
    table = torch.from_numpy(np.random.default_rng(seed).integers(-50, 50, size=(4, 4)))
    changed = table.clone()
    changed[2] = changed[2] * factor + shift
    torch.testing.assert_close(target_chances(changed, 2.0), target_chances(table, 2.0))
    row = target_chances(table[[2, 1, 0, 3]], 2.0)[0]
    assert torch.equal(row, target_chances(table, 2.0)[2])


def test_extreme_draws_stay_inside() -> None:
    sampler = sampler_with([[0, 10**9, 0], [1, 1, 1], [3, 2, 1]])
    top = torch.tensor(np.nextafter(np.float32(1), np.float32(0)))
    tokens = torch.tensor([1, 2, 5])
    low = sampler.substitutes(tokens, torch.zeros(3), torch.zeros(3))
    high = sampler.substitutes(tokens, top.expand(3), top.expand(3))
    assert MAP[low.numpy()].tolist() == [0, 0, 0]
    assert high.tolist() == [11, 11, 11]


def test_wrong_answers_add_up() -> None:
    sampler = ClusterSampler(MAP, 2.0)
    original = torch.tensor([[1, 3, 9, 1, 5, 0]])
    seen = torch.tensor([[2, 6, 2, 6, 7, 0]])
    counted = torch.tensor([[True, True, True, True, True, False]])
    wrong = torch.tensor([[True, True, True, False, False, True]])
    sampler.observe(original, seen, counted, wrong)
    # (0, 1): three wrong, one right; (2, 2): one right; the special token does not count
    assert (sampler.table - 1).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, -1]]
    only = ClusterSampler(MAP, 2.0)
    many = 1000
    only.observe(
        torch.full((many,), 5), torch.full((many,), 1), torch.ones(many, dtype=torch.bool), torch.arange(many) < 7
    )
    assert only.table[2, 0] - 1 == 7 - (many - 7)


def batch_and_parts(**settings: Any) -> tuple[ClusteredTokenDetection, Any, ClusterSampler, Batch, list[Row]]:
    objective = ClusteredTokenDetection(clusters=8, **settings)
    rows = alone(random_rows(8, padding=9))
    torch.manual_seed(3)
    model = encoder()
    sampler = objective.start(model, tokenizer(), rows)
    assert isinstance(sampler, ClusterSampler)
    return objective, model, sampler, objective.collate(rows, tokenizer(), np.random.default_rng(0)), rows


class _Heard:
    """What the model was shown."""

    def __init__(self, model: Any) -> None:
        model.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, module: Any, inputs: Any, given: Any, output: Any) -> None:
        self.ids, self.logits = given["input_ids"], output.logits


@pytest.mark.parametrize("only_changed", [True, False])
def test_a_step(only_changed: bool) -> None:
    objective, model, sampler, batch, rows = batch_and_parts(only_changed=only_changed)
    heard = _Heard(model)
    loss = objective.loss(model, batch, sampler)
    labels, tokens = batch["labels"], torch.from_numpy(given_tokens(rows))
    assert torch.equal(heard.ids[labels != 1], tokens[labels != 1])
    assert (heard.ids[labels == 1] >= 5).all()
    assert (labels[tokens < 5] == -100).all()
    answer = (heard.logits.argmax(-1) == labels).numpy()
    expected = np.ones((8, 8), dtype=np.int64)
    cluster = sampler.cluster.numpy()
    for row, column in np.argwhere((labels == 1).numpy() if only_changed else (labels != -100).numpy()):
        pair = cluster[tokens[row, column]], cluster[heard.ids[row, column]]
        expected[pair] += -1 if answer[row, column] else 1
    assert sampler.table.tolist() == expected.tolist()
    assert loss.right == answer[(labels != -100).numpy()].sum()


def test_only_training_counts_and_the_same_batch_draws_the_same() -> None:
    objective, model, sampler, batch, _ = batch_and_parts()
    heard = _Heard(model.eval())
    objective.loss(model, batch, sampler)
    first = heard.ids
    assert (sampler.table == 1).all()
    torch.manual_seed(99)
    objective.loss(model, batch, sampler)
    assert torch.equal(heard.ids, first)  # nothing is drawn but what the batch holds
    objective.loss(model.train(), batch, sampler)
    assert (sampler.table != 1).any()
    objective.loss(model, batch, sampler)
    assert not torch.equal(heard.ids, first)  # the counts decide


def test_the_share_that_is_replaced() -> None:
    objective = ClusteredTokenDetection()
    rows = random_rows(400, padding=9)
    labels = objective.collate(rows, tokenizer(), np.random.default_rng(0))["labels"].numpy()
    assert labels[given_tokens(rows) >= 5].mean() == pytest.approx(0.15, abs=0.01)


def test_tokens_that_are_used_alike_are_in_one_cluster() -> None:
    """Two kinds of words that keep to themselves, in a text where each follows its own kind only."""
    draw = np.random.default_rng(0)
    kinds = draw.integers(2, size=(200, 1))
    tokens = 2 + 10 * kinds + draw.integers(10, size=(200, 24))
    rows = [{"tokens": t, "documents": np.zeros(24, dtype=np.int64)} for t in tokens]
    ordinary = np.arange(22) >= 2
    found = cluster_tokens(rows, ordinary, 2, seed=1)
    assert found[:2].tolist() == [-1, -1]
    assert len(set(found[2:12])) == len(set(found[12:])) == 1
    assert found[2] != found[12]
    assert np.array_equal(found, cluster_tokens(rows, ordinary, 2, seed=1))


def test_neighbours_are_counted_inside_documents() -> None:
    row = {"tokens": np.array([0, 1, 2, 1, 3, 0]), "documents": np.array([0, 0, 0, 1, 1, -1])}
    counts = neighbours([row], 4, window=2).toarray()
    expected = np.zeros((4, 4))
    for a, b in [(0, 1), (1, 2), (0, 2), (1, 3)]:
        expected[a, b] += 1
        expected[b, a] += 1
    assert counts.tolist() == expected.tolist()
    assert neighbours([row] * 10, 4, window=2, tokens=12).toarray().tolist() == (2 * expected).tolist()


def test_word_vectors_are_those_of_a_dense_computation() -> None:
    draw = np.random.default_rng(1)
    rows = [{"tokens": draw.integers(12, size=20), "documents": np.zeros(20, dtype=np.int64)} for _ in range(20)]
    counts = neighbours(rows, 12)
    dense = counts.toarray()
    others = dense.sum(axis=0) ** 0.75
    with np.errstate(divide="ignore"):
        information = np.maximum(np.log(dense * others.sum() / np.outer(dense.sum(axis=1), others)), 0)
    left, values, _ = np.linalg.svd(information)
    expected = left[:, :5] * values[:5]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = word_vectors(counts, dimensions=5)
    np.testing.assert_allclose(np.abs(found @ found.T), np.abs(expected @ expected.T), atol=0.05)


def test_what_cannot_be() -> None:
    objective = ClusteredTokenDetection(clusters=8)
    with pytest.raises(DataError, match="need the tokenizer"):
        objective.start(encoder())
    with pytest.raises(DataError, match="clustered-token-detection: token clusters are learned from the training rows"):
        objective.start(encoder(), tokenizer())
    one = [{"tokens": np.array([5, 6, 5, 6]), "documents": np.zeros(4, dtype=np.int64)}]
    with pytest.raises(DataError, match="too few for 8 clusters"):
        objective.start(encoder(), tokenizer(), one)
    with pytest.raises(ModelError, match="needs what start"):
        objective.loss(encoder(), objective.collate(random_rows(1), tokenizer(), np.random.default_rng(0)))


def test_clusters_from_a_file(tmp_path: Path) -> None:
    ordinary = vocabulary_of(tokenizer()).ordinary
    good = np.where(ordinary, np.arange(len(ordinary)) % 3, 7)  # whatever it says of special tokens
    good[:5] = 0
    np.save(tmp_path / "map.npy", good)
    objective = ClusteredTokenDetection(map=str(tmp_path / "map.npy"))
    sampler = objective.start(encoder(), tokenizer())
    assert isinstance(sampler, ClusterSampler)
    assert sampler.cluster[:5].tolist() == [-1] * 5
    assert sampler.table.shape == (3, 3)

    def refused(found: Any, message: str) -> None:
        np.save(tmp_path / "map.npy", found)
        with pytest.raises(DataError, match=message):
            objective.start(encoder(), tokenizer())

    refused(good[:-1], f"each of the vocabulary's {len(ordinary)} tokens, found int64 of shape")
    refused(good * 1.5, "one whole number for each")
    refused(np.where(np.arange(len(good)) == 0, 5, good), r"the cluster 3 of .* has no ordinary token")
    refused(np.where(np.arange(len(good)) == 9, -1, good), "has no cluster for token 9")
    (tmp_path / "map.npy").write_bytes(b"something else")
    with pytest.raises(DataError, match="cannot be read"):
        objective.start(encoder(), tokenizer())
    with pytest.raises(DataError, match="cannot be read"):
        ClusteredTokenDetection(map=str(tmp_path / "none.npy")).start(encoder(), tokenizer())


def test_two_tokenizers_have_clusters_of_their_own() -> None:
    from warmstart.models.tokenizer import train_tokenizer

    other = train_tokenizer(["other words altogether"], 270, "masked")
    rows = alone(random_rows(8))
    short = [row | {"tokens": np.minimum(row["tokens"], 260)} for row in rows]
    first = ClusteredTokenDetection(clusters=8).start(encoder(), tokenizer(), rows)
    second = ClusteredTokenDetection(clusters=8).start(encoder(), other, short)
    assert isinstance(first, ClusterSampler)
    assert isinstance(second, ClusterSampler)
    assert len(first.cluster) == len(tokenizer())
    assert len(second.cluster) == len(other)


def test_example() -> None:
    names = run_example(
        ClusteredTokenDetection, ClusteredTokenDetection=ClusteredTokenDetection, torch=torch, np=np, model=encoder(),
        tokenizer=tokenizer(), rows=random_rows(4),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
    assert (names["sampler"].table != 1).any()
