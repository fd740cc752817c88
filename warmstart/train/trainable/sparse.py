"""Sparse training: a fixed random part of the weights is zero and stays so (SPDF's pre-training).

In every matrix of the model's blocks a share of the entries, drawn once, is set to zero and gets no gradient: their
moments stay 0, decay does not move them, and clipping does not see them. Embeddings, the head, norms and biases are
dense. Densifying is nothing but training on without this part: what was masked is exactly 0 and moves again.

On ordinary hardware nothing gets faster. What it would save where zeros cost nothing is counted beside the FLOPs that
were computed: 6 per masked entry and token (two in the forward pass, four in the backward one). The trade-off: capacity
in exchange for compute, to be given back when tokens are few.

Source: "SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models" (arXiv 2303.10464).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import ModelError
from warmstart.models.axes import table_for
from warmstart.randomness import numpy_generator
from warmstart.train.trainable import Trainable


def random_mask(shape: torch.Size, sparsity: float, seed: int, name: str) -> torch.Tensor:
    """Which entries live: bool of `shape`, with exactly `n - round(sparsity * n)` ones at random places.

    Args:
        name: the matrix's name; every matrix draws for itself, so that no order matters.
    """
    size = shape.numel()
    mask = torch.ones(size, dtype=torch.bool)
    dropped = numpy_generator(seed, "sparse", name).permutation(size)[: round(sparsity * size)]
    mask[torch.from_numpy(dropped)] = False
    return mask.view(shape)


def constrain(weight: nn.Parameter, mask: torch.Tensor) -> Any:
    """Zeroes what the mask drops and keeps gradients away from it; returns the hook's handle, which ends that.

    Example:
        In one's own loop, before the optimizer is made::

            for name, weight in block_matrices(model):
                constrain(weight, random_mask(weight.shape, 0.75, seed=0, name=name))
    """
    if mask.shape != weight.shape:
        raise ModelError(f"a mask of shape {tuple(mask.shape)} does not fit a weight of {tuple(weight.shape)}")
    with torch.no_grad():
        weight.masked_fill_(~mask.to(weight.device), 0.0)
    held = [mask]

    def keep_zero(gradient: torch.Tensor) -> torch.Tensor:
        if held[0].device != gradient.device:
            held[0] = held[0].to(gradient.device)
        return gradient.masked_fill(~held[0], 0.0)

    return weight.register_hook(keep_zero)


def block_matrices(model: PreTrainedModel, only: str | None = None) -> Iterator[tuple[str, nn.Parameter]]:
    """The weight matrices inside the model's layers, with their names.

    Args:
        only: a regular expression that a name must contain.
    """
    layers = table_for(model.config).layers
    for name, weight in model.named_parameters():
        inside = name.startswith(f"{layers}.") or f".{layers}." in name
        if inside and weight.ndim == 2 and "norm" not in name and (only is None or re.search(only, name)):
            yield name, weight


class Sparse(Trainable):
    """A fixed share of every matrix of the blocks is zero and does not train."""

    type: Literal["sparse"] = "sparse"
    sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(0.75, description="Share of each matrix that is zero.")
    only: str | None = Field(None, description="A regular expression: mask only matrices whose name contains it.")
    mask: Literal["random", "zeros"] = Field(
        "random", description="zeros: keep those entries zero that are zero now, whatever `sparsity` says."
    )
    count: Literal["dense", "sparse"] = Field(
        "dense", description="What a budget in FLOPs counts: those computed, or those left where zeros cost nothing."
    )

    def prepare(self, model: PreTrainedModel, seed: int = 0) -> None:
        """Draws the masks and holds the weights to them.

        Raises:
            ModelError: no matrix has such a name, or (`mask: zeros`) none has zeros.
        """
        chosen = dict(block_matrices(model, self.only))
        if not chosen:
            names = ", ".join(name for name, _ in list(block_matrices(model))[:3])
            raise ModelError(f"train.trainable.only: no matrix has '{self.only}' in its name; there are {names}, ...")
        if self.mask == "zeros" and all(bool((weight != 0).all()) for weight in chosen.values()):
            raise ModelError("train.trainable.mask: 'zeros', but no matrix of the blocks has a weight that is zero")
        for name, weight in chosen.items():
            alive = weight.detach() != 0
            constrain(weight, alive if self.mask == "zeros" else random_mask(weight.shape, self.sparsity, seed, name))

    def zero_flops_per_token(self, model: nn.Module) -> float:
        matrices = block_matrices(model, self.only)  # type: ignore[arg-type]
        return 6.0 * sum(int((weight == 0).sum()) for _, weight in matrices)

    @property
    def counts_zeros(self) -> bool:
        return self.count == "dense"
