"""Sizes against models that are there; FLOPs against the FLOP meter."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_configurations import SIZES, tiny
from transformers import AutoModelForCausalLM

from warmstart.errors import ModelError
from warmstart.forecast.cluster.activations import Batch
from warmstart.forecast.cluster.compute import compute_seconds, flops_per_token, step_flops
from warmstart.forecast.cluster.machine import Machine
from warmstart.forecast.cluster.memory import gradients_of_step, lasting_parts
from warmstart.forecast.cluster.shape import entries, shape_of, share
from warmstart.train.compute import FlopMeter
from warmstart.train.optimizers.adamw import AdamW
from warmstart.train.weights import layers_of


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("like", SIZES)
def test_every_weight_once(like: str, tied: bool) -> None:
    config = tiny(like, tie_word_embeddings=tied)
    model, shape = AutoModelForCausalLM.from_config(config), shape_of(config)
    assert shape.weights == model.num_parameters()
    assert [entries(layer) for layer in shape.layers] == [
        sum(p.numel() for p in layer.parameters()) for layer in layers_of(model)
    ]
    assert entries(shape.root) == shape.weights - 6 * entries(shape.largest_layer)
    assert len(shape.tensors) == len(list(model.parameters()))


def test_a_model_that_cannot_be_built() -> None:
    with pytest.raises(ModelError, match="cannot be built"):
        shape_of(tiny("gpt2", n_head=5))


@pytest.mark.parametrize("processes", [1, 2, 5, 64])
def test_shares_are_those_of_pytorch(processes: int) -> None:
    """FSDP2 cuts like `torch.chunk` and pads the last piece to the size of the first."""
    shape = shape_of(tiny("llama"))
    pieces = [torch.empty(sizes).chunk(processes)[0].numel() for sizes in shape.tensors]
    assert share(shape.tensors, processes) == sum(pieces)
    assert share(shape.tensors, processes) >= math.ceil(shape.weights / processes)


@pytest.mark.parametrize("like", SIZES)
def test_states_of_one_process(like: str) -> None:
    """Bytes of weights, gradients and AdamW's moments after a step."""
    config = tiny(like)
    model = AutoModelForCausalLM.from_config(config)
    optimizer = AdamW().start(model, 1e-3)
    model(input_ids=torch.zeros(1, 8, dtype=torch.long)).logits.mean().backward()
    optimizer.step()
    parts = lasting_parts(shape_of(config), False, 1) | gradients_of_step(
        shape_of(config), Batch(1, 8, shares=False), 1, 1
    )
    assert parts == {
        "weights": sum(p.nbytes for p in model.parameters()),
        "moments": sum(t.nbytes for s in optimizer.state.values() for t in s.values() if t.ndim),
        "gradients": sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
    }


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("like", SIZES)
def test_flops_are_those_of_the_meter(like: str, tied: bool, checkpointing: bool) -> None:
    config = tiny(like, tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    tokens = torch.zeros(3, 16, dtype=torch.long)
    found = FlopMeter().measure(("x",), lambda: model(input_ids=tokens, use_cache=False).logits.mean())
    assert step_flops(shape_of(config), 3, 16, checkpointing=checkpointing) == found
    assert flops_per_token(shape_of(config), 16, checkpointing=checkpointing) * 48 == found


def test_seconds_of_a_step() -> None:
    machine = Machine(peak=100.0, utilisation=0.5)
    assert compute_seconds(8000, 4, machine) == 40.0  # 8000 FLOPs on 4 x 50 a second
