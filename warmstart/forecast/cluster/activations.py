"""What a micro-batch needs in memory beside weights, gradients and moments.

No formula for each architecture: the model's own code runs forward and backward on PyTorch's fake tensors, which have
shapes, types and lifetimes but no memory, and what is alive is counted. So it holds for every model of `transformers`,
for activation checkpointing, for autocast's copies of the weights, and for the temporary tensors of the backward pass.
Blocks repeat, so that a shallow model is run at two depths and the rest follows in a straight line.

What is not in it: scratch space of kernels, and fragments (`machine.py` leaves room for both). On a GPU attention
kernels other than the one of the CPU keep the same tensors: queries, keys, values, the output and a number a row.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from warmstart.forecast.cluster.live import LiveBytes
from warmstart.models.load import auto_class
from warmstart.objectives.blocks import token_loss

DEPTHS = (2, 4)
"""Blocks of the models that are run. Even ones, as some architectures take turns between two kinds of blocks."""
ROWS = (2, 4)
"""Rows of the micro-batches that are run. A single row is a case of its own: some copies are not needed there."""
UNMASKED = "warmstart-unmasked"
CHUNK = 2**27
"""Logits of a chunk on a GPU, where the loss is computed in chunks."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of one process, and how it is computed.

    Attributes:
        rows, length: blocks, and tokens of a block.
        precision: `bf16` (autocast) or `fp32`.
        shares: weights are put together layer by layer, in bf16 where that is the precision.
        checkpointing: blocks are computed again in the backward pass.
        chunked: logits are never there in full.
        isolated: documents of a block are kept apart by a mask of length x length (for every block of the model).
    """

    rows: int
    length: int
    precision: str = "bf16"
    shares: bool = True
    checkpointing: bool = False
    chunked: bool = False
    isolated: bool = True

    @property
    def bytes_per_weight(self) -> int:
        """Of a weight as the layer computes with it."""
        return 2 if self.precision == "bf16" else 4


@dataclass(frozen=True)
class Activations:
    """Bytes.

    Attributes:
        kept: after the forward pass.
        forward: the most during the forward pass.
        backward: the most during the backward pass, gradients of weights left aside.
    """

    kept: int
    forward: int
    backward: int

    @property
    def peak(self) -> int:
        return max(self.forward, self.backward)


def activations(config: PretrainedConfig, batch: Batch) -> Activations:
    """What a micro-batch needs on a causal model of this configuration.

    Raises:
        Exception: of any kind, where the model's code cannot run without data.
    """
    settings = json.dumps(config.to_dict(), sort_keys=True, default=str)
    rows = ROWS if batch.rows > 1 else (1, 1)
    depths, corners = _corners(settings, replace(batch, rows=0), rows)
    kept, forward, backward = (
        _straight(
            {n: _straight({r: corners[n, r][kind] for r in rows}, batch.rows) for n in depths},
            int(config.num_hidden_layers),
        )
        for kind in range(3)
    )
    if batch.chunked:
        forward = max(forward, kept + chunk_bytes(config, batch))
    return Activations(kept, forward, backward)


def _straight(values: dict[int, int], at: int) -> int:
    """The straight line through two points (or one), at another place."""
    low, high = min(values), max(values)
    slope = (values[high] - values[low]) / (high - low) if high > low else 0.0
    return round(values[low] + slope * (at - low))


@functools.cache
def _corners(
    config_text: str, batch: Batch, rows: tuple[int, int]
) -> tuple[tuple[int, int], dict[tuple[int, int], tuple[int, int, int]]]:
    """What was measured at two depths and two numbers of rows, between and beyond which everything is straight."""
    settings = json.loads(config_text)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    depth = int(config.num_hidden_layers)
    depths = DEPTHS if depth >= DEPTHS[1] else (max(depth - 1, 1), depth)
    found = {(n, r): run_without_memory(_cut(config, n), replace(batch, rows=r)) for n in depths for r in rows}
    return depths, found


def chunk_bytes(config: PretrainedConfig, batch: Batch) -> int:
    """Of the loss in chunks: logits and log-probabilities of the chunk before and logits of the next, in float32; with
    bf16 also rounded ones of both; the gradients of the head, in float32, and of what it reads; a copy of a head that
    is not in the type of the products."""
    vocabulary, width = int(config.vocab_size), int(config.hidden_size)
    tokens, low = batch.rows * batch.length, batch.bytes_per_weight
    per_logit = 3 * 4 + (2 * low if low < 4 else 0)
    copy = low * vocabulary * width if low < 4 and not batch.shares else 0
    return min(CHUNK, tokens * vocabulary) * per_logit + 4 * vocabulary * width + low * tokens * width + copy


def run_without_memory(config: PretrainedConfig, batch: Batch) -> tuple[int, int, int]:
    """`measured` of a model of this configuration at its full depth."""
    stored = torch.bfloat16 if batch.shares and batch.precision == "bf16" else torch.float32
    with FakeTensorMode():
        return measured(auto_class("causal").from_config(config, dtype=stored), batch)


def measured(model: PreTrainedModel, batch: Batch) -> tuple[int, int, int]:
    """Bytes after the forward pass, at most during it, and at most during the backward pass, of a model that is there:
    with fake tensors or with real ones, whose weights have the type that they are computed in. Gradients of weights
    are thrown away as they come."""
    model.train()
    if not batch.isolated:  # fake tensors cannot tell that a mask masks nothing: do without one
        AttentionInterface.register(UNMASKED, sdpa_attention_forward)
        model.set_attn_implementation(UNMASKED)
    if batch.checkpointing:
        enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    handles = [p.register_post_accumulate_grad_hook(_forget) for p in model.parameters() if p.requires_grad]
    tokens = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    half = batch.length // 2 if batch.isolated else batch.length  # two documents in a row
    numbers = torch.arange(batch.length).expand(batch.rows, -1) % half
    low = torch.autocast("cpu", torch.bfloat16) if batch.precision == "bf16" else contextlib.nullcontext()
    with LiveBytes(apart_from=model.parameters()) as live:
        with low:
            loss = _loss(model, tokens, numbers, batch)
        kept, forward, live.peak = live.now, live.peak, live.now
        loss.backward()
    for handle in handles:
        handle.remove()
    return kept, forward, live.peak


def _loss(model: PreTrainedModel, tokens: torch.Tensor, positions: torch.Tensor, batch: Batch) -> torch.Tensor:
    if batch.chunked:  # what the loss needs is added by formula
        return model.base_model(input_ids=tokens, use_cache=False, position_ids=positions).last_hidden_state.sum()
    found = token_loss(model(input_ids=tokens, use_cache=False, position_ids=positions).logits, tokens)
    found.logits = None
    return found.total


def _forget(parameter: torch.Tensor) -> None:
    parameter.grad = None


def _cut(config: PretrainedConfig, depth: int) -> PretrainedConfig:
    """The same model with fewer blocks."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = depth
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:depth]
    return config
