"""Evaluators: (model, tokenizer) -> {name: value}; or, in a study without training, rows -> {name: value}."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from warmstart.errors import RecipeError
from warmstart.part import Part

if TYPE_CHECKING:
    from warmstart.data.engine import Engine
    from warmstart.data.prepare import Prepared
    from warmstart.objectives import Objective
    from warmstart.recipe_data import Data


@dataclass
class Subject:
    """What an evaluator is given: the model and what it was trained with.

    Attributes:
        also: further held-out sets by name (`evaluate.also`); their metrics are called `<name>/...`.
        start: the weights at the stage's beginning, on the CPU, where an evaluator needs them.
        extra: the objective's own modules, where it has any.
        values: what the evaluators before this one have just measured.
        history: what was measured before the run's first step and at the end of each stage that is over.
    """

    model: nn.Module
    tokenizer: Any
    objective: Objective
    data: Prepared
    seed: int
    precision: str = "fp32"
    also: dict[str, Prepared] = field(default_factory=dict)
    start: dict[str, torch.Tensor] | None = None
    extra: nn.Module | None = None
    values: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


class Evaluator(Part, room="evaluate"):
    """The contract of an evaluator. Values are plain floats; names look like `validation/loss`.

    One that sets `of_rows` looks at the curated rows of a stage instead of a model (`compare.at: no-training`).
    """

    of_rows: ClassVar[bool] = False

    needs_start: ClassVar[bool] = False
    """Whether the weights at the stage's beginning must be kept for it (they stand in the stage's folder)."""

    with_shares: ClassVar[bool] = False
    """Whether it works where every process has only its share of the weights (`train.shard`); others get an ordinary
    copy of the model, put together for each evaluation."""

    def evaluate(self, subject: Subject) -> dict[str, float]:
        raise RecipeError(f"the evaluator '{self.name}' measures rows: it needs a study with compare.at: no-training")

    def evaluate_rows(
        self,
        data: Data,
        *,
        engine: Engine | None = None,
        cache_dir: Path | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> dict[str, float]:
        """What there is to say of the rows that `data` makes."""
        raise RecipeError(f"the evaluator '{self.name}' needs a model")
