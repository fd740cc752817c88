"""Starbucks SRL: sizes, the terms of the loss, and whose gradients go where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from pairs import pair_rows
from pydantic import ValidationError
from tiny_encoders import encoder, tokenizer
from torch.nn import functional

from warmstart.errors import ModelError
from warmstart.objectives import Batch
from warmstart.objectives.contrastive import Contrastive
from warmstart.objectives.embeddings import cut
from warmstart.objectives.sizes import checked_sizes, default_sizes
from warmstart.objectives.starbucks_srl import StarbucksSRL, score_divergence, srl_terms

SIZES = [(1, 4), (2, 12), (4, 32)]


def model() -> Any:
    return encoder(head="embedding", num_hidden_layers=4)


def batch_of(objective: Any, count: int = 5) -> Batch:
    return objective.collate(pair_rows(count, negatives=2), tokenizer(), np.random.default_rng(0))


@pytest.mark.parametrize("settings", [{}, {"pooling": "mean", "normalise": "cut", "temperature": 0.05}])
def test_the_whole_model_alone_is_plain_contrastive_training(settings: dict[str, Any]) -> None:
    """Must hold 1: the difference is 0."""
    srl = StarbucksSRL(sizes=[(4, 32)], negatives=1, **settings)
    plain = Contrastive(pooling=srl.pooling, normalise=srl.normalise, temperature=srl.temperature, negatives=1)
    encoder_, batch = model(), batch_of(srl)
    losses = [objective.loss(encoder_, batch) for objective in (srl, plain)]
    assert losses[0].total.item() == losses[1].total.item()
    first, second = (torch.autograd.grad(loss.total, list(encoder_.parameters())) for loss in losses)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_total_is_the_sum_of_its_terms(weight: float) -> None:
    """Must hold 2: n cross entropies and n - 1 divergences, computed again in float64 from the hidden states."""
    objective = StarbucksSRL(sizes=SIZES, negatives=2, kl_weight=weight, temperature=2.0)
    encoder_, batch = model(), batch_of(objective)
    loss = objective.loss(encoder_, batch)
    ids, mask = batch["input_ids"].flatten(0, 1), batch["attention_mask"].flatten(0, 1)
    states = encoder_(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    total, scores = torch.zeros((), dtype=torch.float64), {}
    for layer, width in SIZES:
        texts = states[layer][:, 0, :width].double().view(5, 4, width)
        scores[layer] = texts[:, 0] @ texts[:, 1:].reshape(15, width).T / 2.0
        total += functional.cross_entropy(scores[layer], torch.arange(5) * 3)
    for layer, _ in SIZES[:-1]:
        known, said = torch.log_softmax(scores[4], 1), torch.log_softmax(scores[layer], 1)
        total += weight * (known.exp() * (known - said)).sum() / 5
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-6)
    assert set(loss.parts) == {"1x4/loss", "2x12/loss", "4x32/loss", "1x4/kl", "2x12/kl"}
    summed = sum(value for name, value in loss.parts.items() if "loss" in name)
    summed += weight * sum(value for name, value in loss.parts.items() if "kl" in name)
    torch.testing.assert_close(loss.total.detach(), summed, atol=1e-6, rtol=1e-6)
    assert loss.per_row is not None
    torch.testing.assert_close(loss.per_row.mean(), loss.total.detach())


def test_the_teacher_learns_nothing_from_its_pupils() -> None:
    """Must hold 3."""
    generator = torch.manual_seed(0)
    teacher = torch.randn(4, 8, generator=generator).requires_grad_()
    student = torch.randn(4, 8, generator=generator).requires_grad_()
    divergence = score_divergence(teacher, student, 0.5)
    wanted = functional.kl_div(
        torch.log_softmax(student / 0.5, 1), torch.softmax(teacher / 0.5, 1), reduction="none"
    ).sum(dim=1)
    torch.testing.assert_close(divergence, wanted)
    own, other = torch.autograd.grad(divergence.sum(), [student, teacher], allow_unused=True)
    assert own.abs().sum() > 0
    assert other is None or other.abs().sum() == 0
    torch.testing.assert_close(score_divergence(teacher, teacher), torch.zeros(4), atol=1e-6, rtol=0)
    rankings, divergences = srl_terms([teacher, student, teacher])
    assert (len(rankings), len(divergences)) == (3, 2)
    _, from_whole = torch.autograd.grad(divergences[1].sum(), [student, teacher], allow_unused=True, retain_graph=True)
    assert from_whole is None


def test_upper_layers_learn_only_from_larger_sizes() -> None:
    objective = StarbucksSRL(sizes=[(2, 8)], allow_partial=True)
    encoder_ = model()
    objective.start(encoder_)
    objective.loss(encoder_, batch_of(objective)).total.backward()
    for number, layer in enumerate(encoder_.encoder.layer, start=1):
        gradients = [p.grad for p in layer.parameters()]
        assert any(g is not None and g.abs().sum() > 0 for g in gradients) == (number <= 2)


def test_normalising_before_and_after_cutting_differ() -> None:
    encoder_, losses = model(), []
    for normalise in ("no", "whole", "cut"):
        objective = StarbucksSRL(sizes=SIZES, normalise=normalise)
        losses.append(objective.loss(encoder_, batch_of(objective)).total.item())
    assert len(set(losses)) == 3
    assert cut(torch.ones(1, 4), 1, "cut") == 1
    assert cut(torch.ones(1, 4), 1, "whole") == 0.5


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(1, 4), (2, 4)], r"must grow in layer and dimensions: \[2, 4\] comes after \[1, 4\]"),
        ([(2, 4), (2, 8)], "must grow"),
        ([(0, 4), (4, 32)], r"\[0, 4\] of a model with 4 layers x 32"),
        ([(1, 4), (5, 32)], r"\[5, 32\] of a model"),
        ([(1, 4), (4, 33)], r"\[4, 33\] of a model"),
        ([(1, 4), (3, 32)], r"last size must be the whole model, \[4, 32\], found \[3, 32\]; .*allow_partial"),
        ([], "at least one pair"),
    ],
)
def test_sizes_that_cannot_be(sizes: list[Any], message: str) -> None:
    """Must hold 8, of the function; below of the part."""
    with pytest.raises(ModelError, match=message):
        checked_sizes(sizes, 4, 32)


def test_settings_that_cannot_be() -> None:
    for sizes in ([(1, 4, 2)], [(1,)], [(1, 4), (1, 8)], [(0, 4)], [(1, 0)], []):
        with pytest.raises(ValidationError, match="sizes"):
            StarbucksSRL(sizes=sizes)
    with pytest.raises(ValidationError, match="pooling"):
        StarbucksSRL(pooling="max")
    for sizes in ([(1, 4), (3, 32)], [(1, 4), (5, 64)]):
        with pytest.raises(ModelError, match="objective starbucks-srl, sizes"):
            StarbucksSRL(sizes=sizes).start(model())
    assert checked_sizes([(1, 4), (3, 16)], 4, 32, allow_partial=True) == [(1, 4), (3, 16)]


@given(st.integers(1, 48), st.integers(1, 4096), st.integers(1, 8))
def test_default_sizes_fit_every_model(layers: int, width: int, count: int) -> None:
    sizes = default_sizes(layers, width, count)
    assert checked_sizes(sizes, layers, width) == sizes
    assert len(sizes) == min(count, layers, width.bit_length())


def test_default_sizes() -> None:
    assert default_sizes(12, 768) == [(2, 24), (4, 48), (6, 96), (8, 192), (10, 384), (12, 768)]
    assert default_sizes(2, 16) == [(1, 8), (2, 16)]


def test_example() -> None:
    names = run_example(
        StarbucksSRL, StarbucksSRL=StarbucksSRL, torch=torch, np=np, model=encoder(head="embedding"),
        tokenizer=tokenizer(), rows=pair_rows(6),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
