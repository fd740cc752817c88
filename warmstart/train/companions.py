"""What accompanies a training and remembers: its penalties and what changes its gradients, as one.

The loop calls these functions and so has one place for each hook. All states are saved under the parts' names; a name
that stands twice is numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from warmstart.errors import StateError
from warmstart.objectives import Batch, Loss, Row
from warmstart.part import Part
from warmstart.train.gradients import Gradients
from warmstart.train.penalties import Ground, Moment, Penalty, PenaltyState

Saved = tuple[dict[str, torch.Tensor], dict[str, Any]]


class Companions:
    """The states of all penalties and of the gradients' part, by name.

    Args:
        ground_of: what a part's state stands on, by the part's name.
    """

    def __init__(self, penalties: Sequence[Penalty], gradients: Gradients, ground_of: Callable[[str], Ground]) -> None:
        self.states: dict[str, PenaltyState] = {}
        parts: list[Penalty | Gradients] = [*penalties, gradients]
        for name, part in zip(names_of(parts), parts, strict=True):
            self.states[name] = part.start(ground_of(name))

    def active(self, moment: Moment) -> tuple[str, ...]:
        """The names of those that have a say in a step."""
        return tuple(name for name, state in self.states.items() if state.active(moment))

    def need_logits(self, moment: Moment) -> bool:
        return any(state.needs_logits and state.active(moment) for state in self.states.values())

    def added_to(self, loss: Loss, batch: Batch, moment: Moment) -> Loss:
        """The loss with all penalties in its total; what they see and each adds stands in its parts."""
        extras = {}
        for name, state in self.states.items():
            if state.active(moment):
                extra = state.loss(batch, loss, moment)
                if extra is not None:
                    extras[name] = extra
        if not extras:
            return loss
        plain = loss.total
        parts = loss.parts | {"objective": plain.detach()} | {n: extra.detach() for n, extra in extras.items()}
        return Loss(sum(extras.values(), start=plain), loss.targets, parts, loss.per_row)

    def asides(self, moment: Moment) -> list[Batch]:
        """The batches beside the step's own whose gradients are taken in it."""
        found = (state.aside(moment) for state in self._having_a_say(moment))
        return [batch for batch in found if batch is not None]

    def before_update(self, moment: Moment) -> None:
        for state in self._having_a_say(moment):
            state.before_update(moment)

    def after_update(self, moment: Moment) -> None:
        for state in self._having_a_say(moment):
            state.after_update(moment)

    def seen(self, rows: Sequence[Row]) -> None:
        for state in self.states.values():
            state.seen(rows)

    def finish(self) -> None:
        for state in self.states.values():
            state.finish()

    def tensors(self) -> dict[str, torch.Tensor]:
        return {f"{name}/{key}": t for name, state in self.states.items() for key, t in state.tensors().items()}

    def values(self) -> dict[str, Any]:
        return {name: state.values() for name, state in self.states.items()}

    def load(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Goes on from what the same training saved.

        Raises:
            StateError: another training saved it.
        """
        missing = [name for name in self.states if name not in values]
        if missing:
            raise StateError(f"the saved state knows nothing of {', '.join(missing)}; start again with --fresh")
        for name, state in self.states.items():
            state.load(_of(name, tensors), values[name])

    def take_over(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> list[str]:
        """Goes on, in a new stage, from what the stage before left to parts of the same names; which those are."""
        known = [name for name in self.states if name in values]
        for name in known:
            self.states[name].load(_of(name, tensors), values[name])
            self.states[name].next_stage()
        return known

    def _having_a_say(self, moment: Moment) -> list[PenaltyState]:
        return [state for state in self.states.values() if state.active(moment)]


def names_of(parts: Sequence[Part]) -> list[str]:
    """The parts' names, the second and later ones of a kind numbered: `ewc`, `ewc-2`, ..."""
    names: list[str] = []
    for number, part in enumerate(parts):
        earlier = sum(other.name == part.name for other in parts[:number])
        names.append(f"{part.name}-{earlier + 1}" if earlier else part.name)
    return names


def _of(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key[len(name) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
