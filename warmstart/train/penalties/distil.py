"""A teacher's opinion of every token, for a part of the training: distillation, as SALT uses it.

The loss of a token becomes (1 - weight) * (-log p(token)) + weight * (-sum_v q(v) log p(v)), where q is the teacher's
distribution at a temperature; the student's own stays at temperature 1, and nothing is multiplied by the temperature's
square. A small teacher is wrong in its own ways but has an opinion on every word: it helps early and holds a larger
student back later, so that `until` ends it, and the teacher is then freed.

The price is a forward pass of the teacher for every batch while it lasts (counted in the FLOPs), and its memory.

Source: "A Little Help Goes a Long Way: Efficient LLM Training by Leveraging Small LMs" (arXiv 2410.18779), SALT.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from warmstart.errors import ModelError
from warmstart.models.load import load_model
from warmstart.models.tokenizer import load_tokenizer
from warmstart.named_models import ModelName
from warmstart.objectives import Batch, Loss
from warmstart.objectives.blocks import NO_TARGET
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState


def soft_cross_entropy(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """-sum_v q(v) log p(v) of each row in float32, nats; q is the teacher's softmax at the temperature.

    Args:
        student, teacher: logits `(rows, vocabulary)`; the teacher's have no gradient.

    Example:
        In one's own loop, for logits of every token `(batch, length, vocabulary)`::

            hard = torch.nn.functional.cross_entropy(student.flatten(0, 1), labels.flatten())
            soft = soft_cross_entropy(student.flatten(0, 1), teacher.flatten(0, 1), temperature=1.0).mean()
            loss = (1 - weight) * hard + weight * soft
    """
    wanted = torch.softmax(teacher.detach().float() / temperature, dim=-1)
    return -(wanted * torch.log_softmax(student.float(), dim=-1)).sum(dim=-1)


class Distil(Penalty):
    """Learn from a teacher's distribution beside the data, until the teacher is dropped."""

    type: Literal["distil"] = "distil"
    with_shares: ClassVar[bool] = True
    teacher: ModelName = Field(
        description="A model folder, a hub id, or a source of the study; with the same tokenizer."
    )
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.667, description="omega: the teacher's share of the loss; the data have the rest."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Of the teacher alone; below 1 it is sharper.")
    until: Annotated[float, Field(gt=0)] | None = Field(
        0.17, description="A share of the budget (below 1), or a number of steps; null: the whole training."
    )
    transition: Literal["step", "linear"] = Field(
        "step", description="linear: the weight falls from half of `until` to half as much after it, in a line."
    )
    vocabulary_slice: bool = Field(False, description="A padded vocabulary may be cut to the smaller of the two.")

    def start(self, ground: Ground) -> PenaltyState:
        return Distillation(self, ground)

    def weight_at(self, moment: Moment) -> float:
        """The teacher's share of the loss at a moment."""
        if self.transition == "step" or self.until is None:
            return self.weight if moment.before(self.until) else 0.0
        place = moment.progress if self.until < 1 else float(moment.step)
        return self.weight * min(1.0, max(0.0, 1.5 - place / self.until))


class Distillation(PenaltyState):
    """The teacher, while it is needed."""

    needs_logits = True

    def __init__(self, settings: Distil, ground: Ground) -> None:
        self.settings, self._ground = settings, ground
        self.teacher: nn.Module | None = None

    def active(self, moment: Moment) -> bool:
        if self.settings.weight_at(moment) > 0:
            return True
        self.teacher = None  # it is never needed again: its memory is free from here on
        return False

    def loss(self, batch: Batch, loss: Loss, moment: Moment) -> torch.Tensor | None:
        """weight * (soft - hard), so that the total becomes (1 - weight) * hard + weight * soft."""
        if loss.logits is None:
            raise ModelError(f"penalties distil: the objective {self._ground.objective.name} has no logits to compare")
        teacher = self._teacher()
        with torch.no_grad():
            wanted = self._ground.objective.loss(teacher, batch, None).logits
        assert wanted is not None
        size = self._common_size(loss.logits.shape[-1], wanted.shape[-1])
        target = batch["labels"] != NO_TARGET
        soft = soft_cross_entropy(
            loss.logits[target][:, :size], wanted[target][:, :size], self.settings.temperature
        ).sum() / target.sum().clamp(min=1)
        weight = self.settings.weight_at(moment)
        loss.parts["distil/soft_loss"] = soft.detach()
        return weight * (soft - loss.total)

    def _common_size(self, student: int, teacher: int) -> int:
        if student != teacher and not self.settings.vocabulary_slice:
            raise ModelError(
                f"penalties distil: the teacher '{self.settings.teacher}' has a vocabulary of {teacher}, the student "
                f"one of {student}; if only padding differs, set vocabulary_slice: true"
            )
        return min(student, teacher)

    def _teacher(self) -> nn.Module:
        """The teacher, loaded when it is first needed: a training that resumes after it never loads it."""
        if self.teacher is None:
            ground, name = self._ground, self.settings.teacher
            theirs = load_tokenizer(name).get_vocab()
            if theirs != ground.tokenizer.get_vocab():
                raise ModelError(
                    f"penalties distil: the teacher '{name}' has another tokenizer ({len(theirs)} tokens) than the "
                    f"student ({len(ground.tokenizer.get_vocab())}); its opinion would be of other words"
                )
            teacher = load_model(name, ground.objective.head)
            teacher.requires_grad_(False)
            self.teacher = teacher.to(ground.device).eval()  # type: ignore[arg-type]
        return self.teacher
