"""Optimizers, by name."""

from __future__ import annotations

import torch
from torch import nn

from warmstart.part import Part


class Optimizer(Part, room="optimizers"):
    """The contract of an optimizer: `start` gives a plain `torch.optim.Optimizer` over the parameters that train."""

    def start(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        raise NotImplementedError
