"""Which weights move, and through which part of the model, at each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from warmstart.part import Part


class Trainable(Part, room="trainable"):
    """The contract. The default (`all`) trains every weight of the whole model."""

    with_shares: ClassVar[bool] = False
    """Whether it works where every process has only its share of the weights (`train.shard`)."""

    def prepare(self, model: PreTrainedModel, seed: int) -> None:
        """Sets `requires_grad`, or what else decides what may move, once, before the optimizer is made.

        Raises:
            ModelError: this model has not the layers or weights that the settings name.
        """

    def choose(self, step: int, seed: int, model: nn.Module) -> str:
        """The name of what this step trains ('' = the whole model); steps with one name cost the same FLOPs."""
        return ""

    @contextmanager
    def during(self, model: nn.Module, choice: str) -> Iterator[None]:
        """The model as the chosen step sees it (e.g. only its bottom layers), undone at the end of the step."""
        yield

    def zero_flops_per_token(self, model: nn.Module) -> float:
        """Training FLOPs a token that are spent on weights held at zero; asked for once, when training begins."""
        return 0.0

    @property
    def counts_zeros(self) -> bool:
        """Whether those FLOPs count in the budget, as they do on hardware that multiplies zeros like other numbers."""
        return True
