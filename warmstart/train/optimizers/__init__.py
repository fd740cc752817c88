"""Optimizers, by name."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from warmstart.part import Part


class Optimizer(Part, room="optimizers"):
    """The contract of an optimizer: `start` gives a plain `torch.optim.Optimizer` over the parameters that train."""

    with_shares: ClassVar[bool] = False
    """Whether it works where every process has only its share of the weights (`train.shard`)."""

    def start(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        raise NotImplementedError
