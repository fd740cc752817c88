"""How the rows of a step lie in memory while they are computed: with padding, with less of it, or with none.

    padded     `(rows, length)`: every row as long as a block
    bucketed   `(rows, longest)`: rows of similar length share a step (drawn from a window of steps) and are padded to
               the longest of their micro-batch
    unpadded   `(1, tokens)`: real tokens only, one text after another, with the texts' lengths beside them

Rows are collated and masked before they are laid out, so that a row's masks depend neither on the layout nor on how
many processes share the step. Rows are dealt out so that all micro-batches have about equally many tokens; the loss is
normalised over the whole step, so that the deal changes nothing but rounding.

The trade-off: `unpadded` computes least and its rows meet as the mix drew them; `bucketed` needs no special attention,
but rows of one length meet, which makes steps less alike; neither has fixed shapes, which `train.compile` needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch

from warmstart.data.batch.deal import snake
from warmstart.data.mix import MixState
from warmstart.objectives import Batch
from warmstart.randomness import numpy_generator
from warmstart.train.compute import Work

Layout = Literal["padded", "bucketed", "unpadded"]
WINDOW = 16
"""Steps whose rows are sorted into buckets together: enough for similar lengths to meet, few enough to stay mixed."""
PLACE_ONLY = ("documents", "attention_mask")
"""Columns that only say what is padding or whose token is whose."""


def micro_batches(batch: Batch, layout: Layout, pieces: int) -> list[Batch]:
    """A collated batch of a whole step, cut into `pieces` and laid out.

    Args:
        batch: columns `(rows, length)`; `documents` or `attention_mask` say where padding is, if anywhere.
        pieces: how many micro-batches, over all processes; divides the rows.
    """
    if layout == "padded":
        if pieces == 1:
            return [batch]
        size = len(next(iter(batch.values()))) // pieces
        return [{name: t[i * size : (i + 1) * size] for name, t in batch.items()} for i in range(pieces)]
    documents = documents_of(batch)
    hands = snake((documents >= 0).sum(axis=1).tolist(), pieces)
    lay = _flat if layout == "unpadded" else _trimmed
    return [lay({name: tensor[hand] for name, tensor in batch.items()}, documents[hand]) for hand in hands]


def work_of(parts: Iterable[Batch]) -> Work:
    """The work of micro-batches that are laid out; of sounds, steps of features count as tokens."""
    tokens = pairs = 0
    for part in parts:
        *rows, length = part[
            "input_ids" if "input_ids" in part else "attention_mask"
        ].shape  # one text a row, or several
        tokens += math.prod(rows) * length
        pairs += int((part["text_lengths"] ** 2).sum()) if "text_lengths" in part else math.prod(rows) * length**2
    return Work(tokens, pairs)


def documents_of(batch: Batch) -> np.ndarray:
    """Which document each token belongs to, `(rows, length)`; -1 is padding."""
    if "documents" in batch:
        return batch["documents"].numpy()
    if "attention_mask" in batch:
        return batch["attention_mask"].numpy().astype(np.int64) - 1
    return np.zeros(tuple(batch["input_ids"].shape), dtype=np.int64)


def texts_of(documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The texts of some rows, longest first: places of all their tokens in the flattened rows, and their lengths.

    Args:
        documents: `(rows, length)`; a text is a run of one number in a row, -1 is padding.
    """
    begins = np.ones(documents.shape, dtype=bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, documents.size))
    real = documents.ravel()[starts] >= 0
    starts, lengths = starts[real], lengths[real]
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    ends = np.cumsum(lengths)
    places = np.repeat(starts - (ends - lengths), lengths) + np.arange(int(lengths.sum()))
    return places, lengths


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, but for the texts' lengths: the host must know them, as they decide what is launched."""
    return {
        name: tensor if name == "text_lengths" else tensor.to(device, non_blocking=True)
        for name, tensor in batch.items()
    }


def shortened(batch: Batch, lengths: tuple[int, ...]) -> Batch:
    """A small batch of the same columns: the first row again and again, `lengths` tokens of it, each one text."""
    longest = max(lengths)
    columns = {
        name: tensor[:1, :longest].expand(len(lengths), -1).clone()
        for name, tensor in batch.items()
        if name not in PLACE_ONLY
    }
    return columns | {"attention_mask": torch.arange(longest) < torch.tensor(lengths)[:, None]}


def _flat(rows: Batch, documents: np.ndarray) -> Batch:
    places, lengths = texts_of(documents)
    where = torch.from_numpy(places)
    flat = {name: tensor.flatten()[where][None] for name, tensor in rows.items() if name not in PLACE_ONLY}
    return flat | {"text_lengths": torch.from_numpy(lengths)}


def _trimmed(rows: Batch, documents: np.ndarray) -> Batch:
    longest = _longest(documents)
    return {name: tensor[:, :longest] for name, tensor in rows.items()}


def _longest(documents: np.ndarray) -> int:
    """Tokens up to the last real one of any row."""
    return int(np.flatnonzero((documents >= 0).any(axis=0))[-1]) + 1


class Buckets(MixState):
    """Rows of a mix in another order: the rows of `WINDOW` steps, sorted by length, cut into steps, steps shuffled.

    No row is lost or repeated, and within a window no length comes before another but by chance. A run that ends inside
    a window has not seen that window's other rows.

    Args:
        mix: where rows come from.
        length_of: real tokens of a row, by source and number.
        batch_size: rows per step.
        seed: of the order of steps.
    """

    def __init__(
        self, mix: MixState, length_of: Callable[[int, int], int], batch_size: int, seed: int, window: int = WINDOW
    ) -> None:
        self.mix, self._length_of, self._batch_size, self._seed, self._window = mix, length_of, batch_size, seed, window
        self._waiting: list[list[tuple[int, int]]] = []
        self._windows = 0

    def next(self, count: int, progress: float = 0.0) -> list[tuple[int, int]]:
        if count != self._batch_size:
            raise ValueError(f"buckets hold {self._batch_size} rows, not {count}")
        if not self._waiting:
            rows = self.mix.next(count * self._window, progress)
            rows.sort(key=lambda row: self._length_of(*row))
            draw = numpy_generator(self._seed, "buckets", self._windows)
            order = draw.permutation(self._window).tolist()
            self._waiting = [rows[step * count : (step + 1) * count] for step in order]
            self._windows += 1
        return self._waiting.pop(0)

    def observe(self, values: dict[str, float]) -> None:
        self.mix.observe(values)

    def report(self) -> dict[str, float]:
        return self.mix.report()

    def state_dict(self) -> dict[str, Any]:
        waiting = [[list(row) for row in step] for step in self._waiting]
        return {"mix": self.mix.state_dict(), "waiting": waiting, "windows": self._windows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mix.load_state_dict(state["mix"])
        self._waiting = [[(int(source), int(row)) for source, row in step] for step in state["waiting"]]
        self._windows = int(state["windows"])
