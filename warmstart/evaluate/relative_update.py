"""How far the bottom and the top of the network have moved from where the stage began.

In the stability gap the bottom blocks move more than the top ones, relative to their size (the ratio is above 1.35 with
the plain recipe of arXiv 2406.14833, section 3, and closer to 1 with its strategies).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from warmstart.errors import ModelError
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.stability import relative_update
from warmstart.models.axes import table_for


class RelativeUpdate(Evaluator):
    """`update/bottom`, `update/top`, `update/all`: mean |w - w0| / |w0|; and `update/ratio`, bottom over top."""

    type: Literal["relative-update"] = "relative-update"
    needs_start: ClassVar[bool] = True
    blocks: Annotated[int, Field(gt=0)] = Field(1, description="Blocks at the bottom, and as many at the top.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        assert subject.start is not None
        weights = {name: value for name, value in subject.model.state_dict().items() if name in subject.start}
        found = block_numbers(list(subject.start), subject.model.config)
        depth = 1 + max(found.values(), default=-1)
        if depth < 2 * self.blocks:
            raise ModelError(
                f"evaluator relative-update: {self.blocks} blocks at each end need {2 * self.blocks}, "
                f"the model has {depth}"
            )
        groups = {
            "bottom": [name for name, block in found.items() if block < self.blocks],
            "top": [name for name, block in found.items() if block >= depth - self.blocks],
            "all": list(subject.start),
        }
        values = {
            f"update/{group}": relative_update(_chosen(weights, names), _chosen(subject.start, names))
            for group, names in groups.items()
        }
        top = values["update/top"]
        return values | {"update/ratio": values["update/bottom"] / top if top > 0 else 1.0}


def block_numbers(names: list[str], config: Any) -> dict[str, int]:
    """The number of the block that each weight belongs to, from the bottom; weights outside the blocks are left out.

    Raises:
        ModelError: there is no table for this architecture.
    """
    layers = re.escape(table_for(config).layers)
    found = {name: re.search(rf"(?:^|\.)?{layers}\.(\d+)\.", name) for name in names}
    return {name: int(match.group(1)) for name, match in found.items() if match}


def _chosen(weights: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    return {name: weights[name] for name in names}
