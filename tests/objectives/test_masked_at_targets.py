"""The head at the targets alone: the loss and its gradients are those of `masked`, for less work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from docstring_examples import run_example
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoders import encoder, part_of, random_rows, tokenizer

from warmstart.errors import ModelError
from warmstart.objectives.masked import Masked
from warmstart.objectives.masked_at_targets import MaskedAtTargets, states_at, target_places
from warmstart.train.compute import FlopMeter


def batches(objective: Any, padding: int = 9) -> Any:
    return objective.collate(random_rows(6, padding=padding), tokenizer(), np.random.default_rng(0))


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_places(seed: int, length: int) -> None:
    draw = np.random.default_rng(seed)
    labels = np.where(draw.random((4, length)) < draw.random(), 7, -100)
    places = target_places(labels)
    assert places.shape[1] % 8 == 0 or places.shape[1] == length
    for row in range(4):
        assert places[row][places[row] >= 0].tolist() == np.flatnonzero(labels[row] != -100).tolist()


@pytest.mark.parametrize("like", ["bert", "electra", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("fates", [(0.8, 0.1, 0.1), (0.0, 1.0, 0.0)])
def test_loss_and_gradients_are_those_of_masked(like: str, fates: Any) -> None:
    sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "dropout": 0.0, "attention_dropout": 0.0}
    if like == "distilbert":
        from warmstart.models.build import configuration, new_model

        settings = sizes | {"max_position_embeddings": 140}
        model: Any = new_model(configuration(like, settings, tokenizer()), "masked", 0).train()
    elif like == "modernbert":
        from warmstart.models.build import configuration, new_model

        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        settings = dict(zip(names, (32, 2, 2, 64), strict=True)) | {"max_position_embeddings": 140}
        model = new_model(configuration(like, settings, tokenizer()), "masked", 0).train()
    else:
        model = encoder(like, "masked")
    found, gradients = [], []
    for kind in (Masked, MaskedAtTargets):
        objective = kind(fates=fates)
        loss = objective.loss(model, batches(objective))
        model.zero_grad()
        loss.total.backward()
        found.append(loss)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    plain, cheap = found
    torch.testing.assert_close(cheap.total, plain.total)
    torch.testing.assert_close(cheap.per_row, plain.per_row)
    assert cheap.targets == plain.targets
    assert plain.logits is not None
    assert cheap.right == (plain.logits.argmax(-1) == batches(Masked(fates=fates))["labels"]).sum()
    assert cheap.logits is None
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_micro_batches_add_up() -> None:
    model, objective = encoder(head="masked"), MaskedAtTargets()
    batch = batches(objective)
    whole = objective.loss(model, batch)
    parts = [objective.loss(model, part_of(batch, first, first + 2)) for first in (0, 2, 4)]
    torch.testing.assert_close(sum(p.total * p.targets for p in parts) / whole.targets, whole.total)


def test_it_costs_less() -> None:
    model = encoder(head="masked")
    cost = {}
    for kind in (Masked, MaskedAtTargets):
        objective = kind()
        batch = batches(objective)
        cost[kind] = FlopMeter().measure(("step",), lambda o=objective, b=batch: o.loss(model, b).total)
    width = batches(MaskedAtTargets())["places"].shape[1]
    head = 3 * 2 * 32 * (len(tokenizer()) + 32)  # the vocabulary and the layer before it, per place
    assert cost[Masked] - cost[MaskedAtTargets] == 6 * (128 - width) * head
    assert width < 40


def test_a_model_without_a_head_of_its_own() -> None:
    nowhere = states_at(encoder(head="none"), torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(ModelError, match="BertModel has no trunk apart from its head"), nowhere:
        pass


def test_example() -> None:
    names = run_example(
        MaskedAtTargets, MaskedAtTargets=MaskedAtTargets, torch=torch, np=np, model=encoder(head="masked"),
        tokenizer=tokenizer(), rows=random_rows(4),
    )  # fmt: skip
    assert names["loss"].total.isfinite()
