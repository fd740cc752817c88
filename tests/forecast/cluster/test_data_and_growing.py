"""Bytes of blocks against files, memory of growing against tensors that grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_configurations import tiny
from transformers import AutoModelForCausalLM

from warmstart.data.batch import Tokens
from warmstart.data.batch.blocks import write_blocks
from warmstart.data.batch.concat import Concat
from warmstart.forecast.cluster.data import bytes_per_token, collate_seconds, prepare_seconds
from warmstart.forecast.cluster.growing import (
    check_bytes,
    check_flops,
    grow_seconds,
    in_memory_bytes,
    streaming_bytes,
    tensor_bytes,
)
from warmstart.forecast.cluster.live import LiveBytes
from warmstart.forecast.cluster.machine import Rates
from warmstart.forecast.cluster.shape import shape_of
from warmstart.surgery.grow import Grow
from warmstart.surgery.plan import Plan
from warmstart.surgery.stream import weight_names
from warmstart.train.compute import FlopMeter

RATES = Rates(save=1.0, collate=50.0, grow=10.0, tokenise=20.0)


@pytest.mark.parametrize(("length", "vocabulary", "context"), [(16, 300, 0), (16, 70_000, 0), (40_000, 300, 3)])
def test_bytes_of_a_token(tmp_path: Path, length: int, vocabulary: int, context: int) -> None:
    def documents() -> Iterator[Tokens]:
        for number in range(6):
            yield Tokens(np.full(length // 2, number, dtype=np.int32), context)

    blocks = write_blocks(tmp_path / "train-0", Concat().pack(documents(), length, 0), length, vocabulary)
    size = sum(file.stat().st_size - 128 for file in tmp_path.iterdir())  # a header of 128 bytes a file
    assert blocks == 3
    assert size == blocks * length * bytes_per_token(length, vocabulary, context=context > 0)


def test_seconds_of_data() -> None:
    assert collate_seconds(10, 20, RATES) == 4.0
    assert prepare_seconds(100, RATES) == 5.0


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", ["fpi", "exact"])
def test_memory_of_growing(width: str, stored: torch.dtype) -> None:
    """The most that is alive while any tensor grows; random shares come in slices beside it."""
    old = tiny("llama", hidden_size=384, num_attention_heads=12, num_key_value_heads=12, intermediate_size=1024)
    old.num_hidden_layers = 1
    to = {"hidden_size": 480, "num_attention_heads": 15, "num_key_value_heads": 15, "intermediate_size": 1280}
    model = AutoModelForCausalLM.from_config(old).to(stored)
    weights = dict(model.named_parameters(remove_duplicate=False))
    plan = Plan(Grow(to=to, width=width), old, weight_names(model), 0)  # type: ignore[arg-type]
    worst = 0
    for name in weights:
        with LiveBytes(weights.values()) as live:
            new = plan.tensor(name, lambda asked: weights[asked].detach().clone())  # as if it came from the file
            del new
        worst = max(worst, live.peak)
    expected = streaming_bytes(shape_of(old), shape_of(plan.config), stored.itemsize)
    assert expected <= 1.02 * worst
    slices = 3 * 4 * 2**20 if width == "exact" else 0
    assert worst <= 1.02 * expected + slices


def test_memory_of_growing_in_memory_and_of_its_check() -> None:
    old, new = shape_of(tiny("llama")), shape_of(tiny("llama", num_hidden_layers=8))
    models = [AutoModelForCausalLM.from_config(tiny("llama", num_hidden_layers=n)) for n in (6, 8)]
    sizes = [sum(p.nbytes for p in model.parameters()) for model in models]
    assert in_memory_bytes(old, new) == sum(sizes)
    assert check_bytes(new) == sizes[1]
    assert grow_seconds(new, 2, RATES) == 2 * new.weights / 10
    tokens = torch.zeros(1, 128, dtype=torch.long)
    forward = sum(FlopMeter().measure_forward((), lambda m=m: m(tokens, use_cache=False)) for m in models)
    assert check_flops(old, new) == pytest.approx(forward, rel=0.35)  # attention is a large part in models this small


def test_a_tensor_that_keeps_a_side() -> None:
    assert tensor_bytes((100, 8), (120, 8), 4) == 4 * (800 + 960)
    assert tensor_bytes((8,), (10,), 4) == 4 * 18
    assert tensor_bytes((100, 8), (120, 10), 2) == max(4 * (800 + 960 + 1200) + 2 * 800, 4 * 2000 + 2 * 2000)
