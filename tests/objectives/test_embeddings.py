"""Pooling, cutting, scores and the ranking loss; rows to batches; folders that sentence-transformers opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from pairs import pair_rows
from pydantic import ValidationError
from tiny_encoders import encoder, part_of, tokenizer
from torch.nn import functional
from transformers import AutoModel

from warmstart.errors import DataError, ModelError
from warmstart.models.save import save_model
from warmstart.objectives import Batch
from warmstart.objectives.contrastive import Contrastive
from warmstart.objectives.embeddings import cut, pair_scores, pooled, ranking_loss, right_of
from warmstart.objectives.matryoshka_2d import Matryoshka2D


def collated(rows: list[Any], seed: int = 0, **settings: Any) -> Batch:
    return Contrastive(**settings).collate(rows, tokenizer(), np.random.default_rng(seed))


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 6))
def test_pooling(seed: int, texts: int, length: int) -> None:
    draw = np.random.default_rng(seed)
    states = torch.from_numpy(draw.normal(size=(texts, length, 3)).astype(np.float32))
    lengths = draw.integers(1, length + 1, size=texts)
    mask = torch.arange(length) < torch.from_numpy(lengths)[:, None]
    for row in range(texts):
        real = states[row, : lengths[row]]
        torch.testing.assert_close(pooled(states, mask, "mean")[row], real.mean(dim=0))
        assert torch.equal(pooled(states, mask, "cls")[row], real[0])
        assert torch.equal(pooled(states, mask, "last")[row], real[-1])
    with pytest.raises(ValueError, match="unknown pooling 'max'"):
        pooled(states, mask, "max")


def test_cutting_and_normalising() -> None:
    vectors = torch.randn(5, 8, generator=torch.manual_seed(0))
    assert torch.equal(cut(vectors, 3), vectors[:, :3])
    torch.testing.assert_close(cut(vectors, 3, "cut").norm(dim=1), torch.ones(5))
    torch.testing.assert_close(cut(vectors, 3, "whole"), vectors[:, :3] / vectors.norm(dim=1, keepdim=True))


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.sampled_from(["no", "whole", "cut"]))
def test_scores_and_loss_are_those_of_the_definition(seed: int, rows: int, documents: int, normalise: str) -> None:
    texts = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 1 + documents, 6)))
    scores = pair_scores(texts, 4, normalise)
    assert scores.shape == (rows, rows * documents)
    vectors = cut(texts, 4, normalise)
    for row in range(rows):
        wanted = [float(vectors[row, 0] @ vectors[n // documents, 1 + n % documents]) for n in range(scores.shape[1])]
        np.testing.assert_allclose(scores[row].numpy(), wanted, atol=1e-5)
        chances = np.exp(np.array(wanted) / 0.7)
        loss = -np.log(chances[row * documents] / chances.sum())
        assert ranking_loss(scores, 0.7)[row].item() == pytest.approx(loss, abs=1e-4)
    assert right_of(scores) == sum(int(scores[row].argmax()) == row * documents for row in range(rows))


def test_rows_become_texts_beside_each_other() -> None:
    rows = pair_rows(4, negatives=3)
    batch = collated(rows, negatives=2, length=16)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids.shape == mask.shape == (4, 4, ids.shape[2])
    assert ids.shape[2] % 8 == 0
    for row, texts, real in zip(rows, ids, mask, strict=True):
        said = [tokenizer().decode(t[r], skip_special_tokens=True) for t, r in zip(texts, real, strict=True)]
        wanted = [tokenizer().decode(tokenizer()(row[c])["input_ids"][:15], skip_special_tokens=True)
                  for c in ("text", "positive")]  # fmt: skip
        assert said[:2] == wanted
        assert len(set(said[2:])) == 2
        assert set(said[2:]) <= {tokenizer().decode(tokenizer()(n)["input_ids"][:15], skip_special_tokens=True)
                                 for n in row["negative"]}  # fmt: skip
    assert torch.equal(
        collated(rows, seed=0, negatives=2)["input_ids"], collated(rows, seed=0, negatives=2)["input_ids"]
    )
    assert collated(rows, negatives=5, length=8)["input_ids"].shape == (4, 7, 8)  # more than there are: some again


def test_the_loss_with_padding_is_that_of_every_text_alone() -> None:
    model, rows = encoder(head="embedding"), pair_rows(3)
    objective = Contrastive(temperature=0.3, dimensions=7)
    loss = objective.loss(model, objective.collate(rows, tokenizer(), np.random.default_rng(0)))

    def vector(text: str) -> torch.Tensor:
        ids = torch.tensor([tokenizer()(text)["input_ids"]])
        return functional.normalize(model(input_ids=ids).last_hidden_state[0].mean(dim=0)[:7], dim=0)

    queries, documents = (torch.stack([vector(row[c]) for row in rows]) for c in ("text", "positive"))
    wanted = functional.cross_entropy(queries @ documents.T / 0.3, torch.arange(3), reduction="none")
    assert loss.per_row is not None
    torch.testing.assert_close(loss.per_row, wanted.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss.total, wanted.mean(), atol=1e-4, rtol=1e-4)
    assert loss.targets == 3


def test_a_part_of_a_batch_is_the_batch_of_a_part() -> None:
    model, rows = encoder(head="embedding"), pair_rows(6)
    objective = Contrastive()
    batch = objective.collate(rows, tokenizer(), np.random.default_rng(0))
    part = objective.loss(model, part_of(batch, 2, 5))
    alone = objective.loss(model, objective.collate(rows[2:5], tokenizer(), np.random.default_rng(0)))
    torch.testing.assert_close(part.total, alone.total)


def test_two_dimensional_matryoshka_is_the_sum_of_its_terms() -> None:
    model, rows = encoder(head="embedding", num_hidden_layers=4, initializer_range=0.3), pair_rows(5)
    objective = Matryoshka2D(widths=[4, 12], kl_weight=0.5, temperature=0.2)
    seen = set()
    for seed in range(12):
        batch = objective.collate(rows, tokenizer(), np.random.default_rng(seed))
        draws = batch["draws"]
        assert (draws == draws[0]).all()
        layer, width = 1 + int(draws[0, 0] * 3), [4, 12][int(draws[0, 1] * 2)]
        seen.add((layer, width))
        states = dict(zip((layer, 4), objective.vectors(model, batch, [layer, 4]), strict=True))
        total = sum(ranking_loss(pair_scores(states[n], w, "cut"), 0.2).mean() for n in (layer, 4) for w in (32, width))
        teacher, student = (torch.log_softmax(pair_scores(states[n], 32, "cut") / 0.2, 1) for n in (4, layer))
        total = total + 0.5 * (teacher.exp() * (teacher - student)).sum(dim=1).mean()
        torch.testing.assert_close(objective.loss(model, batch).total, total, atol=1e-5, rtol=1e-5)
    assert {layer for layer, _ in seen} == {1, 2, 3}
    assert {width for _, width in seen} == {4, 12}
    with pytest.raises(ModelError, match="one layer has no lower"):
        objective.start(encoder(head="embedding", num_hidden_layers=1))
    with pytest.raises(ModelError, match="width 64 of a model with 32"):
        Matryoshka2D(widths=[64]).start(model)


def test_what_cannot_be() -> None:
    rows = pair_rows(2)
    with pytest.raises(DataError, match=r"row 0: no column 'positve' \(did you mean 'positive'"):
        collated(rows, positive="positve")
    with pytest.raises(DataError, match="'positive' must hold a text, found int"):
        collated([rows[0] | {"positive": 3}])
    with pytest.raises(DataError, match="must hold a list of texts that is not empty, found list"):
        collated([rows[0] | {"negative": []}], negatives=1)
    with pytest.raises(ModelError, match="dimensions 64 of a model with 32"):
        Contrastive(dimensions=64).loss(encoder(head="embedding"), collated(rows))
    with pytest.raises(ModelError, match="length 144 is more than the model's 140 positions"):
        Contrastive(length=144).start(encoder(head="embedding"))
    with pytest.raises(ValidationError, match="'cls', 'mean' or 'last'"):
        Contrastive(pooling="max")


@pytest.mark.parametrize(("pooling", "normalise"), [("cls", "no"), ("mean", "cut"), ("last", "whole")])
def test_the_folder_opens_elsewhere(pooling: Any, normalise: Any, tmp_path: Path) -> None:
    """With plain transformers, and with sentence-transformers, which then pools and normalises as in training."""
    model, objective = encoder(head="embedding").eval(), Contrastive(pooling=pooling, normalise=normalise, length=16)
    save_model(model, tokenizer(), tmp_path / "model", files=objective.files(model))
    texts = [row["positive"] for row in pair_rows(4)]
    plain = AutoModel.from_pretrained(tmp_path / "model")
    given = tokenizer()(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        states = plain(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    wanted = cut(pooled(states, given["attention_mask"].bool(), pooling), 32, normalise)
    library = pytest.importorskip("sentence_transformers")
    opened = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    found = opened.encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert opened.max_seq_length == 16
    narrow = library.SentenceTransformer(str(tmp_path / "model"), device="cpu", truncate_dim=8).encode(texts)
    assert narrow.shape == (4, 8)
    assert json.loads((tmp_path / "model" / "modules.json").read_text())[0]["path"] == ""


@pytest.mark.parametrize("kind", [Contrastive, Matryoshka2D])
def test_examples(kind: Any) -> None:
    names = run_example(
        kind, torch=torch, np=np, model=encoder(head="embedding"), tokenizer=tokenizer(), rows=pair_rows(6),
        **{kind.__name__: kind},
    )  # fmt: skip
    assert names["loss"].total.isfinite()
