"""AdamW (Loshchilov and Hutter, arXiv 1711.05101), fused. Matrices decay; biases and norms do not."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from warmstart.errors import ModelError
from warmstart.train.optimizers import Optimizer

Share = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Optimizer):
    """AdamW over the weights that train, with weight decay on tensors of two and more dimensions only."""

    type: Literal["adamw"] = "adamw"
    with_shares: ClassVar[bool] = True
    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1

    def start(self, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        trained = [p for p in model.parameters() if p.requires_grad]
        if not trained:
            raise ModelError("train.trainable: every weight of the model is frozen; there is nothing to train")
        groups = [
            {"params": [p for p in trained if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, fused=True)
