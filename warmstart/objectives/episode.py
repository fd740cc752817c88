"""What ProtoCLIP keeps between two looks at the data: its projection heads, an episode's rows, labels and prototypes.

All are parameters and buffers of one module, so that they are saved and resumed with a run like weights. Rows are
found by their numbers, which stand in ascending order beside their labels.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn

from warmstart.errors import DataError
from warmstart.models.two_towers import unit

WARM_UP, PROTOTYPES, CLOSING = 0, 1, 2
PHASES = ("warm-up", "prototypes", "closing")
NOBODY = 2**62  # stands where an episode has fewer rows; above all row numbers, so that the others stay sorted
LOG_SCALE = math.log(1 / 0.07)


class Episode(nn.Module):
    """What ProtoCLIP trains and remembers beside the model; all of it is saved with a run and none is exported.

    Args:
        inputs: dimensions of the model's embeddings.
        hidden, outputs: of the two projection heads, which begin alike.
        rows: the most that an episode has.
        clusters: prototypes.
        teacher: a vector for each training row, `(rows of the data, any)`, or None. It is not saved: it can be made
            again.
    """

    number: torch.Tensor
    kind: torch.Tensor
    began: torch.Tensor
    members: torch.Tensor
    teacher_labels: torch.Tensor

    def __init__(
        self, inputs: int, hidden: int, outputs: int, rows: int, clusters: int, teacher: np.ndarray | None = None
    ) -> None:
        super().__init__()
        self.image_head = nn.Sequential(
            nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )
        self.text_head = copy.deepcopy(self.image_head)
        self.log_scale = nn.Parameter(torch.tensor(LOG_SCALE))
        self.teacher, self.teacher_flops = teacher, 0.0
        for name in ("number", "kind"):  # of this episode, counted from 1, and which of PHASES
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("began", torch.zeros((), dtype=torch.float64))  # at this share of the budget
        self.register_buffer("members", torch.full((rows,), NOBODY))  # the numbers of its rows, ascending
        for name in ("image_labels", "text_labels", "teacher_labels"):
            self.register_buffer(name, torch.zeros(rows, dtype=torch.int64))
        for name in ("image_centroids", "text_centroids"):  # what the targets are made of
            self.register_buffer(name, torch.zeros(clusters, outputs))
        for name in ("image_of_text", "text_of_image", "image_of_teacher", "text_of_teacher"):
            self.register_buffer(name, torch.zeros(clusters, outputs))  # prototypes in a student's space, of a teacher

    @property
    def phase(self) -> int:
        return int(self.kind)

    def projected(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings through the heads, of length 1: `(rows, outputs)` each."""
        return unit(self.image_head(image)), unit(self.text_head(text))

    def places(self, numbers: torch.Tensor) -> torch.Tensor:
        """Where rows of these numbers stand among the episode's, int64 like `numbers`.

        Raises:
            DataError: a row is not of this episode, so that it has no label.
        """
        found = torch.searchsorted(self.members, numbers).clamp(max=len(self.members) - 1)
        other = self.members[found] != numbers
        if other.any():
            raise DataError(f"row number {int(numbers[other][0])} has no label: it is none of the episode's rows")
        return found
