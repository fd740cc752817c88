"""What a token costs when the model is used: FLOPs of reading it, and weights to hold; of a composition, all of them.

Training is what a study holds equal; a method may pay at inference instead, and that must stand beside its result.
"""

from __future__ import annotations

from typing import Literal

import torch

from warmstart.errors import DataError
from warmstart.evaluate import Evaluator, Subject
from warmstart.models.evaluating import evaluating
from warmstart.train.compute import FlopMeter


class InferenceCost(Evaluator):
    """`inference/flops_per_token` (forward, at the length of a held-out block, nothing cached) and
    `inference/parameters`."""

    type: Literal["inference-cost"] = "inference-cost"

    def evaluate(self, subject: Subject) -> dict[str, float]:
        blocks = next((blocks for blocks in subject.data.validation if len(blocks)), None)
        if blocks is None:
            raise DataError("evaluator inference-cost: there is no held-out block to read")
        device = next(subject.model.parameters()).device
        ids = torch.from_numpy(blocks[0]["tokens"])[None].to(device)
        with evaluating(subject.model):
            flops = FlopMeter().measure_forward((), lambda: subject.model(input_ids=ids, use_cache=False))
        weights = sum(parameter.numel() for parameter in subject.model.parameters())
        return {"inference/flops_per_token": flops / ids.shape[1], "inference/parameters": float(weights)}
