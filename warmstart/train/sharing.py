"""Whether the processes of a stage share out its weights, and whether all of its parts can do with shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import UserError
from warmstart.recipe_stage import Stage
from warmstart.train.processes import Processes
from warmstart.train.weights import SharedWeights, WholeWeights


def spread(
    model: PreTrainedModel,
    extra: nn.Module | None,
    stage: Stage,
    processes: Processes,
    *,
    shares: bool,
    precision: str,
    may_skip_weights: bool,
) -> WholeWeights:
    """The model's weights, where each process needs them.

    Args:
        extra: the objective's own modules.
        may_skip_weights: the objective has steps in which some weights get no gradient.
    """
    if not shares:
        return WholeWeights(model, processes, unused=stage.train.trainable.name != "all" or may_skip_weights)
    return SharedWeights(
        model,
        processes,
        kept_whole=extra.parameters() if extra is not None else (),
        precision=precision,
        compile=stage.train.compile,
    )


def check_shares(stage: Stage) -> None:
    """All parts of a stage can train weights that are in shares.

    Raises:
        UserError: one cannot.
    """
    settings = stage.train
    named: dict[str, Sequence[Any]] = {
        "objective": [stage.objective],
        "train.trainable": [settings.trainable],
        "train.optimizer": [settings.optimizer],
        "train.penalties": settings.penalties,
        "train.gradients": [settings.gradients],
    }
    for field, parts in named.items():
        for part in parts:
            if not part.with_shares:
                raise UserError(
                    f"{field}: '{part.name}' works on whole weights, and here every process has only its share of "
                    "them; set train.shard: never, or launch without FSDP"
                )
