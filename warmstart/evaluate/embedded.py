"""What the evaluators of embedding models share: held-out rows with two texts, and the vectors of texts.

The rows are those that a stage holds out (`data.packing: rows`), or those of a further set of `evaluate.also`. Pooling
and normalisation are those that the objective trains with, unless the evaluator says others, so that a model is judged
as it is meant to be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.data.records import Records
from warmstart.errors import DataError, ModelError, nearest
from warmstart.evaluate import Evaluator, Subject
from warmstart.evaluate.held_out import evaluation_mode
from warmstart.models.layers import depth_of, layer_states, width_of
from warmstart.objectives.embeddings import Normalise, Pooling, cut, encoded, pooled

Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]


@dataclass(frozen=True)
class Task:
    """Two lists of texts, and what their vectors (`(texts, dimensions)` each; products are scores) are worth."""

    left: list[str]
    right: list[str]
    judge: Judge


class EmbeddingTask(Evaluator):
    """What evaluators of embeddings are set by."""

    held_out: str = Field("validation", description="Whose rows: the stage's own, or a set of evaluate.also by name.")
    query: str = Field("text", description="The column with a row's first text.")
    positive: str = Field("positive", description="The column with its second text.")
    rows: Annotated[int, Field(ge=2)] = Field(1000, description="At most so many rows, evenly spaced.")
    length: Annotated[int, Field(ge=8)] = Field(128, description="Tokens of a text that are read.")
    batch_size: Annotated[int, Field(gt=0)] = Field(64, description="Texts per batch.")
    pooling: Pooling | None = Field(None, description="Default: the objective's, where it has one; else mean.")
    normalise: Normalise | None = Field(None, description="Default: the objective's, where it has one; else cut.")

    def task(self, subject: Subject) -> Task:
        """What is to be judged.

        Raises:
            DataError: the held-out rows do not have what is needed.
        """
        raise NotImplementedError

    def evaluate(self, subject: Subject) -> dict[str, float]:
        return self.at_sizes(subject, [(depth_of(subject.model), width_of(subject.model))])[0]

    def at_sizes(self, subject: Subject, sizes: Sequence[tuple[int, int]]) -> list[dict[str, float]]:
        """What the model is worth at each of some sizes (layer, dimensions); the texts pass through it once.

        Raises:
            ModelError: the model has no such size.
        """
        for layer, width in sizes:
            if not (1 <= layer <= depth_of(subject.model) and 1 <= width <= width_of(subject.model)):
                whole = [depth_of(subject.model), width_of(subject.model)]
                raise ModelError(f"evaluator {self.name}: size [{layer}, {width}] of a model of {whole}")
        task = self.task(subject)
        normalise = str(self.normalise or getattr(subject.objective, "normalise", "cut"))
        layers = sorted({layer for layer, _ in sizes})
        both = [self._vectors(subject, texts, layers) for texts in (task.left, task.right)]
        return [task.judge(*(cut(side[layer], width, normalise).numpy() for side in both)) for layer, width in sizes]

    def read(self, subject: Subject, *columns: str) -> list[list[Any]]:
        """Columns of the held-out rows.

        Raises:
            DataError: there is no such held-out set, its rows did not stay rows, or they lack a column.
        """
        where = f"evaluator {self.name}"
        sets = {"validation": subject.data} | subject.also
        if self.held_out not in sets:
            known = ", ".join(sets)
            raise DataError(f"{where}: no held-out set '{self.held_out}'{nearest(self.held_out, sets)}; sets: {known}")
        found = [rows for rows in sets[self.held_out].validation if len(rows)]
        if not all(isinstance(rows, Records) for rows in found):
            raise DataError(f"{where}: needs rows with two texts; set data.packing: rows")
        total = sum(len(rows) for rows in found)
        count = min(self.rows, total)
        every = [(rows, number) for rows in found for number in range(len(rows))]
        chosen = [every[place * total // count] for place in range(count)]
        values: list[list[Any]] = [[] for _ in columns]
        for rows, number in chosen:
            row = rows[number]
            for column, wanted in zip(values, columns, strict=True):
                if row.get(wanted) in (None, ""):
                    known = ", ".join(row)
                    hint = nearest(wanted, row)
                    raise DataError(f"{where}, row {row['id']}: no column '{wanted}'{hint}; columns: {known}")
                column.append(row[wanted])
        return values

    def _vectors(self, subject: Subject, texts: list[str], layers: list[int]) -> dict[int, torch.Tensor]:
        pooling = str(self.pooling or getattr(subject.objective, "pooling", "mean"))
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # little padding
        parts: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
        for some in _batches(order, self.batch_size):
            given = encoded(subject.tokenizer, [texts[number] for number in some], self.length)
            states = embed(subject.model, given, layers, pooling, subject.precision)
            for layer, vectors in zip(layers, states, strict=True):
                parts[layer].append(vectors)
        back = torch.tensor(np.argsort(order))
        return {layer: torch.cat(found)[back] for layer, found in parts.items()}


def embed(
    model: nn.Module, batch: dict[str, torch.Tensor], layers: Sequence[int], pooling: str, precision: str = "fp32"
) -> list[torch.Tensor]:
    """The pooled vectors of texts after each of some layers, `(texts, hidden size)`, on the CPU.

    Args:
        batch: `input_ids` and `attention_mask`, `(texts, length)`.
    """
    device = next(model.parameters()).device
    given = {name: tensor.to(device) for name, tensor in batch.items()}
    with evaluation_mode(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        states = layer_states(model, layers, **given)
        return [pooled(one, given["attention_mask"], pooling).cpu() for one in states]


def _batches(order: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
