"""Random token detection: what is replaced, what is labelled, and the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tiny_encoders import TEXT, alone, encoder, given_tokens, random_rows, tokenizer
from torch.nn import functional

from warmstart.errors import ModelError
from warmstart.models.load import load_model
from warmstart.models.save import save_model
from warmstart.objectives import Batch, Row
from warmstart.objectives.bidirectional import vocabulary_of
from warmstart.objectives.detection import detection_logits, detection_loss, random_tokens
from warmstart.objectives.random_token_detection import RandomTokenDetection
from warmstart.objectives.words import Words


def collated(rows: list[Row], seed: int = 0, **settings: Any) -> Batch:
    return RandomTokenDetection(**settings).collate(rows, tokenizer(), np.random.default_rng(seed))


def test_what_is_replaced_and_labelled() -> None:
    rows = random_rows(400, padding=9)
    tokens, batch = given_tokens(rows), collated(rows)
    labels, seen = batch["labels"].numpy(), batch["input_ids"].numpy()
    ordinary = tokens >= 5
    assert (labels[~ordinary] == -100).all()  # special tokens and padding
    assert (seen[~ordinary] == tokens[~ordinary]).all()
    assert set(np.unique(labels[ordinary])) == {0, 1}
    assert labels[ordinary].mean() == pytest.approx(0.15, abs=0.01)
    assert (seen[labels == 0] == tokens[labels == 0]).all()
    assert (seen[labels == 1] >= 5).all()  # no special token is drawn, [MASK] neither
    counts = np.bincount(seen[labels == 1], minlength=len(tokenizer()))[5:]
    assert chisquare(counts).pvalue > 1e-3  # every ordinary token alike
    assert torch.equal(batch["documents"][0], torch.from_numpy(rows[0]["documents"]))


def test_a_token_that_is_drawn_again_counts_as_replaced() -> None:
    rows = random_rows(400)
    tokens, batch = given_tokens(rows), collated(rows)
    labels = batch["labels"].numpy()
    same = (batch["input_ids"].numpy() == tokens)[labels == 1]
    expected = 1 / len(vocabulary_of(tokenizer()).choices)
    assert same.mean() == pytest.approx(expected, abs=4 * math.sqrt(expected / len(same)))
    assert same.any()
    batch = collated(rows, exclude_same=True)
    labels = batch["labels"].numpy()
    assert not (batch["input_ids"].numpy() == tokens)[labels == 1].any()


@given(st.integers(0, 2**32))
def test_excluding_the_same_leaves_all_others_alike(seed: int) -> None:
    vocabulary = vocabulary_of(tokenizer())
    tokens = np.full((1, 40 * len(vocabulary.choices)), vocabulary.choices[seed % len(vocabulary.choices)])
    drawn = random_tokens(tokens, vocabulary, np.random.default_rng(seed), exclude_same=True)
    counts = np.bincount(drawn.ravel(), minlength=len(vocabulary.ordinary))
    assert counts[tokens[0, 0]] == 0
    others = np.delete(vocabulary.choices, np.flatnonzero(vocabulary.choices == tokens[0, 0]))
    assert counts[others].sum() == tokens.size
    assert chisquare(counts[others]).pvalue > 1e-6


def test_context_is_left_alone() -> None:
    rows = [row | {"context": np.arange(128) < 64} for row in random_rows(4)]
    batch = collated(rows, rate=0.9)
    assert (batch["labels"][:, :64] == -100).all()
    assert torch.equal(batch["input_ids"][:, :64], torch.from_numpy(given_tokens(rows)[:, :64]))
    assert (batch["labels"][:, 64:] == 1).any()


def test_whole_words_are_replaced_together() -> None:
    ids = np.array(tokenizer()(TEXT * 4)["input_ids"])
    row = {"tokens": ids, "positions": np.arange(len(ids)), "documents": np.zeros(len(ids), dtype=np.int64)}
    word = np.cumsum(Words(tokenizer()).starts(ids[None], row["documents"][None])[0])
    labels = collated([row] * 20, whole_word=True)["labels"].numpy()
    for number in np.unique(word):
        inside = labels[:, word == number]
        assert (inside == inside[:, :1]).all()
    assert (labels == 1).any()


def test_randomness_comes_from_the_generator_alone() -> None:
    first, second, other = (collated(random_rows(4), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["input_ids"], other["input_ids"])


@pytest.mark.parametrize("like", ["bert", "electra"])
def test_the_loss_is_cross_entropy_of_two_classes(like: str) -> None:
    """Equal to what `transformers` computes from the same labels, for both kinds of head."""
    model, batch = encoder(like), collated(alone(random_rows(6)))
    loss = RandomTokenDetection().loss(model, batch)
    output = model(input_ids=batch["input_ids"])
    has_target = batch["labels"] != -100
    if like == "bert":
        expected = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        said = output.logits.argmax(-1)
    else:
        logits = output.logits[has_target]
        expected = functional.binary_cross_entropy_with_logits(logits, batch["labels"][has_target].float())
        said = (output.logits > 0).long()
    torch.testing.assert_close(loss.total, expected)
    assert loss.right == ((said == batch["labels"]) & has_target).sum()
    assert loss.targets == has_target.sum()
    weights = has_target.sum(dim=1) / has_target.sum()
    torch.testing.assert_close((loss.per_row * weights).sum(), expected.detach())
    assert loss.total.item() == pytest.approx(math.log(2), abs=0.1)


def test_logits_of_two_classes_and_of_one_are_one_thing() -> None:
    logits, labels = torch.randn(3, 7, 2), torch.randint(-1, 2, (3, 7))
    labels[labels < 0] = -100
    two = detection_loss(detection_logits(_Output(logits)), labels)
    one = detection_loss(detection_logits(_Output(logits[..., 1] - logits[..., 0])), labels)
    assert torch.equal(two.total, one.total)
    torch.testing.assert_close(two.total, functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    found = (logits[..., 1] > logits[..., 0])[labels == 1]
    assert two.parts["detected"] == found.float().mean()
    nothing = detection_loss(logits[..., 0], torch.full((3, 7), -100))
    assert nothing.total == 0
    assert nothing.targets == 0


class _Output:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


def test_a_model_without_a_detecting_head(tmp_path: Any) -> None:
    batch = collated(random_rows(2))
    with pytest.raises(ModelError, match=r"two classes per token; the model gives \(2, 128, 300\)"):
        RandomTokenDetection().loss(encoder(head="masked", vocab_size=300), batch)
    with pytest.raises(ModelError, match="the model has none"):
        RandomTokenDetection().loss(encoder(head="none"), batch)
    save_model(encoder(head="masked"), tokenizer(), tmp_path / "m")
    with pytest.raises(ModelError, match=r"detection head needs, e\.g\. classifier\.bias"):
        load_model(tmp_path / "m", "detection")


@pytest.mark.parametrize(("like", "kind"), [("bert", "TokenClassification"), ("electra", "PreTraining")])
def test_the_export_opens_with_plain_transformers(like: str, kind: str, tmp_path: Any) -> None:
    import transformers

    model = encoder(like).eval()
    save_model(model, tokenizer(), tmp_path / "m")
    auto = getattr(transformers, f"AutoModelFor{kind}")
    again, report = auto.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not report["missing_keys"]
    ids = torch.from_numpy(given_tokens(random_rows(2)))
    assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert again.config.id2label == {0: "original", 1: "replaced"}
    assert torch.equal(load_model(tmp_path / "m", "detection")(input_ids=ids).logits, model(input_ids=ids).logits)


def test_it_learns_to_tell_random_tokens() -> None:
    """On texts that repeat two tokens a wrong one stands out."""
    draw = np.random.default_rng(0)
    tokens = np.repeat(draw.integers(5, len(tokenizer()), size=(16, 1)), 32, axis=1)
    rows = [{"tokens": t, "positions": np.arange(32), "documents": np.zeros(32, dtype=np.int64)} for t in tokens]
    model, objective = encoder(), RandomTokenDetection()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = objective.loss(model, objective.collate(rows, tokenizer(), draw))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert int(loss.right or 0) / int(loss.targets) > 0.97


def test_example() -> None:
    model = encoder()
    before = model.classifier.weight.clone()
    names = run_example(
        RandomTokenDetection, RandomTokenDetection=RandomTokenDetection, torch=torch, np=np, model=model,
        tokenizer=tokenizer(), rows=random_rows(4),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
    assert not torch.equal(model.classifier.weight, before)
