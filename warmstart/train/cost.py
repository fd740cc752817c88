"""What a step costs in FLOPs, measured once for each shape of batch (`warmstart/train/compute.py`).

Forward and backward pass, penalties, what gradients beside the step's own need, all micro-batches, all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from warmstart.objectives import Batch
from warmstart.train.compute import FlopMeter, batch_key
from warmstart.train.layout import micro_batches, shortened, to_device, work_of
from warmstart.train.penalties import Moment
from warmstart.train.precision import autocast
from warmstart.train.tensors import unchanged_buffers

if TYPE_CHECKING:
    from warmstart.train.loop import Training


class Cost:
    """FLOPs of the steps of one training.

    Attributes:
        meter: what has been measured; it is saved with the training.

    Args:
        pieces: a step's batch as micro-batches, over all processes.
    """

    def __init__(self, training: Training, pieces: Callable[[Batch], list[Batch]]) -> None:
        self.meter = FlopMeter()
        self._of, self._pieces = training, pieces

    def of_step(self, batch: Batch, choice: str, moment: Moment) -> float:
        """FLOPs of a step on this batch: forward and backward, penalties, all micro-batches, all processes."""
        asides = sum(self._measured_aside(aside) for aside in self._of.companions.asides(moment))
        return self._own_cost(batch, choice, moment) + asides * self._of.processes.count

    def _own_cost(self, batch: Batch, choice: str, moment: Moment) -> float:
        """FLOPs of the step's own batch."""
        parts = self._pieces(batch)
        if self._of.settings.layout == "padded":
            return self._measured(parts[0], choice, moment) * len(parts)

        def one_text(length: int) -> float:
            shape = micro_batches(shortened(batch, (length,)), self._of.settings.layout, 1)[0]
            return self._measured(shape, choice, moment)

        return self.meter.measure_by_work(
            (choice, self._of.companions.active(moment), self._of.settings.layout),
            work_of(parts),
            one_text,
            lambda: (work_of(parts[:1]), self._measured(parts[0], choice, moment)),
        )

    def _measured(self, part: Batch, choice: str, moment: Moment) -> float:
        """FLOPs of one micro-batch, measured once per shape; the modules are left as they were."""

        def forward() -> torch.Tensor:
            on_device = to_device(part, self._of.device)
            with autocast(self._of.device.type, self._of.precision):
                loss = self._of.objective_loss(
                    self._of.model, on_device, self._of.extra, self._of.companions.need_logits(moment)
                )
                return self._of.companions.added_to(loss, on_device, moment).total

        phase = self._of.objective.phase(self._of.extra)
        key = (choice, *((phase,) if phase else ()), *self._of.companions.active(moment), *batch_key(part))
        if self.meter.knows(key):  # what follows copies every buffer
            return self.meter.measure(key, forward)
        with (
            self._of.settings.trainable.during(self._of.model, choice),
            unchanged_buffers(self._of.trained_module()),
        ):
            return self.meter.measure(key, forward)

    def _measured_aside(self, batch: Batch) -> float:
        """FLOPs of a gradient beside the step's own."""

        def forward() -> torch.Tensor:
            with autocast(self._of.device.type, self._of.precision):
                return self._of.objective_loss(self._of.model, batch, self._of.extra).total

        with unchanged_buffers(self._of.trained_module()):
            return self.meter.measure(("aside", *batch_key(batch)), forward)

    def of_finish(self) -> float:
        """Lets the penalties take stock of the finished stage; the FLOPs of that, over all processes."""
        with unchanged_buffers(self._of.trained_module()):
            return self.meter.count(self._of.companions.finish) * self._of.processes.count
