"""Replay: a few old rows stand beside the new ones in every batch.

A reservoir keeps a fixed number of rows of everything that was seen, as token ids. In later stages every micro-batch is
joined by `ratio` times as many rows of the memory, and the loss is the mean over all targets of both,

    (T * loss + M * loss of the memory) / (T + M),   T and M the numbers of targets,

so that old rows weigh as much as new ones. New rows are as many as without replay; the old ones come on top. (The
published code keeps the batch's size instead, and so halves the new rows.)

`fill: after` offers the stage's training rows when it is over, and so replays earlier stages alone. `fill: during`
offers the rows of every step after it, and needs no stages.

The price: the passes over the old rows, 1 + `ratio` times the compute of a step; the memory itself is a few hundred
kilobytes. Unlike the mix `replay` it needs the old corpus only while that is trained on.

Source: the replay baseline of "On the Usage of Continual Learning for Out-of-Distribution Generalization in Pre-trained
Language Models of Code" (arXiv 2305.04106).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from warmstart.objectives import Batch, Loss, Row
from warmstart.randomness import numpy_generator
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState
from warmstart.train.reservoir import Reservoir, check_still_fits, vocabulary_of


def joined_mean(new: Loss, old: Loss) -> torch.Tensor:
    """What must be added to the mean loss of new rows to make it that over the targets of new and old rows together.

    Example:
        In one's own loop, with a `Reservoir` of rows::

            new = objective.loss(model, objective.collate(rows, tokenizer, generator))
            old = objective.loss(model, objective.collate(memory.drawn(8, generator), tokenizer, generator))
            (new.total + joined_mean(new, old)).backward()
    """
    share = old.targets / (new.targets + old.targets).clamp(min=1)
    return share * (old.total - new.total)


class Replay(Penalty):
    """Old rows from a memory of fixed size beside the new ones in every batch."""

    type: Literal["replay"] = "replay"
    with_shares: ClassVar[bool] = True
    once: ClassVar[bool] = True
    rows: Annotated[int, Field(gt=0)] = Field(200, description="Rows that are remembered, of all stages together.")
    ratio: Annotated[float, Field(ge=0)] = Field(1.0, description="Old rows for each new one in a batch; 0: none.")
    fill: Literal["after", "during"] = Field(
        "after", description="after: from the stage's training rows at its end; during: from each step's rows."
    )

    def start(self, ground: Ground) -> PenaltyState:
        return Memory(self, ground)


class Memory(PenaltyState):
    """The rows that are remembered."""

    def __init__(self, settings: Replay, ground: Ground) -> None:
        self.settings, self._ground = settings, ground
        self.reservoir = Reservoir(settings.rows)
        self._vocabulary = vocabulary_of(ground.tokenizer)

    def active(self, moment: Moment) -> bool:
        return self.settings.ratio > 0 and len(self.reservoir) > 0

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        count = max(1, round(self.settings.ratio * len(next(iter(batch.values())))))
        generator = numpy_generator(self._ground.seed, "draw", moment.step)
        drawn = self.reservoir.drawn(count * moment.pieces, generator)
        rows = drawn[moment.piece * count : (moment.piece + 1) * count]
        old = self._ground.loss(self._ground.batch_of(rows, ("old", moment.step, moment.piece)))
        loss.parts["replay/old_loss"] = old.total.detach()
        return joined_mean(loss, old)

    def seen(self, rows: Sequence[Row]) -> None:
        if self.settings.fill == "during":
            self._offer(rows)

    def finish(self) -> None:
        if self.settings.fill == "after":
            self._offer(self._ground.rows())

    def _offer(self, rows: Any) -> None:
        generator = numpy_generator(self._ground.seed, "offer", self.reservoir.offered)
        self.reservoir.offer(rows, generator)

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.reservoir.tensors()

    def values(self) -> dict[str, Any]:
        return {"offered": self.reservoir.offered, "vocabulary": self._vocabulary}

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        self.reservoir.load(tensors, values["offered"])
        check_still_fits("penalties replay", [self.reservoir], values["vocabulary"], self._ground)
