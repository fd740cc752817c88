"""Loss on held-out documents, with the same blocks and the same masks at every evaluation.

The corruption of the objective is drawn from the run's seed and the batch's number alone, so that two
evaluations, and two arms of a study at one seed, differ by their models and by nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.data.batch.blocks import Blocks
from warmstart.evaluate import Evaluator, Subject
from warmstart.objectives import Row
from warmstart.randomness import numpy_generator

if TYPE_CHECKING:
    from warmstart.data.prepare import Prepared


@dataclass
class _Sums:
    """Nats, targets and right guesses, added up."""

    nats: float = 0.0
    targets: int = 0
    right: int = 0

    def add(self, other: _Sums) -> None:
        self.nats += other.nats
        self.targets += other.targets
        self.right += other.right

    @property
    def loss(self) -> float:
        return self.nats / self.targets if self.targets else math.nan

    @property
    def accuracy(self) -> float:
        return self.right / max(self.targets, 1)


class HeldOut(Evaluator):
    """`validation/loss` (nats per target), `/perplexity`, `/bits_per_byte`, `/accuracy`; of several sources, loss and
    accuracy of each (`validation/<source>/loss`) and their means over sources, whatever their sizes
    (`validation/macro/loss`); the same of each further held-out set under its name.

    Bits per byte is the loss in bits over the bytes of an average held-out token: comparable between
    tokenizers for a causal model; for a masked one it is a rate per hidden token, not the length of a code.
    """

    type: Literal["held-out"] = "held-out"
    with_shares: ClassVar[bool] = True
    tokens: Annotated[int, Field(gt=0)] = Field(
        65536, description="Read at most so many tokens of each set (at least one block)."
    )
    batch_size: Annotated[int, Field(gt=0)] = Field(32, description="Blocks per batch.")

    def evaluate(self, subject: Subject) -> dict[str, float]:
        values: dict[str, float] = {}
        with evaluation_mode(subject.model, subject.extra):
            for name, data in {"validation": subject.data, **subject.also}.items():
                values |= self._of_set(subject, name, data)
        return values

    def _of_set(self, subject: Subject, name: str, data: Prepared) -> dict[str, float]:
        """The metrics of one held-out set."""
        purpose = () if name == "validation" else (name,)
        chosen = [self._rows(blocks, data.validation) for blocks in data.validation]
        total = _Sums()
        of_sources: list[_Sums] = []
        values: dict[str, float] = {}
        number = 0
        for source, blocks, rows in zip(data.source_names, data.validation, chosen, strict=True):
            sums = _Sums()
            for start in range(0, len(rows), self.batch_size):
                batch = [blocks[row] for row in rows[start : start + self.batch_size]]
                sums.add(_measure(subject, batch, numpy_generator(subject.seed, "held-out", *purpose, number)))
                number += 1
            total.add(sums)
            if len(chosen) > 1 and rows:
                of_sources.append(sums)
                values[f"{name}/{source}/loss"] = sums.loss
                values[f"{name}/{source}/accuracy"] = sums.accuracy
        if of_sources:
            values[f"{name}/macro/loss"] = sum(sums.loss for sums in of_sources) / len(of_sources)
            values[f"{name}/macro/accuracy"] = sum(sums.accuracy for sums in of_sources) / len(of_sources)
        return {
            f"{name}/loss": total.loss,
            f"{name}/perplexity": math.exp(min(total.loss, 700.0)),
            f"{name}/bits_per_byte": total.loss / math.log(2) / data.bytes_per_token,
            f"{name}/accuracy": total.accuracy,
        } | values

    def _rows(self, blocks: Blocks, all_blocks: list[Blocks]) -> list[int]:
        """Evenly spaced blocks: this source's share of `tokens`, and at least one if it has any."""
        if not len(blocks):
            return []
        available = sum(len(other) for other in all_blocks)
        wanted = max(1, self.tokens // blocks.length * len(blocks) // available)
        count = min(wanted, len(blocks))
        return [place * len(blocks) // count for place in range(count)]


def _measure(subject: Subject, rows: list[Row], generator: np.random.Generator) -> _Sums:
    """One batch."""
    batch = subject.objective.collate(rows, subject.tokenizer, generator)
    device = next(subject.model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.autocast(device.type, torch.bfloat16, subject.precision == "bf16"):
        torch.manual_seed(int(generator.integers(2**62)))  # an objective may draw on the device: the same every time
        loss = subject.objective.loss_without_logits(subject.model, batch, subject.extra)
    targets = int(loss.targets)
    return _Sums(float(loss.total) * targets, targets, 0 if loss.right is None else int(loss.right))


@contextmanager
def evaluation_mode(*roots: nn.Module | None) -> Iterator[None]:
    """The modules in evaluation mode without gradients; then as they were."""
    given = [root for root in roots if root is not None]
    modes = {module: module.training for root in given for module in root.modules()}
    for root in given:
        root.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
