"""What is hidden of a sequence in spans, and what a hidden step is told apart from: wav2vec 2.0's masks and
distractors.

Every step is the start of a span with the same chance; spans overlap and end where the sequence ends. With a chance of
0.065 and spans of 10 steps, 49 % of a long sequence is hidden. Both are drawn beside the model, on the CPU, so that a
step of training can be repeated exactly.

Source: A. Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020,
sections 3.1 and 3.2.
"""

from __future__ import annotations

import numpy as np

from warmstart.errors import DataError, UserError

FEWEST = 2
"""Hidden steps of a sequence: one is told apart from another."""


def draw_spans(lengths: np.ndarray, width: int, chance: float, span: int, generator: np.random.Generator) -> np.ndarray:
    """Which steps are hidden: bool `(batch, width)`, at least two of each sequence and none of the padding.

    Args:
        lengths: steps of each sequence, `(batch,)`; at most `width`, at least `span` and 2.
        chance: that a step is the start of a span.
        span: steps of a span.

    Raises:
        UserError: a sequence that is too short, a span below 1, or a chance that is not between 0 and 1.
    """
    if span < 1:
        raise UserError(f"a span has at least 1 step, found {span}")
    if not 0 < chance < 1:
        raise UserError(f"the chance of a span's start lies between 0 and 1, found {chance}")
    if (lengths < max(span, FEWEST)).any() or (lengths > width).any():
        raise DataError(
            f"sequences of {int(lengths.min())} to {int(lengths.max())} steps: spans of {span} need "
            f"{max(span, FEWEST)} to {width}"
        )
    inside = np.arange(width) < lengths[:, None]
    starts = (generator.random((len(lengths), width)) < chance) & inside
    hidden = _spread(starts, span) & inside
    for row in np.flatnonzero(hidden.sum(axis=1) < FEWEST):
        while hidden[row].sum() < FEWEST:
            first = int(generator.integers(lengths[row]))
            hidden[row, first : min(first + span, lengths[row])] = True
    return hidden


def _spread(starts: np.ndarray, span: int) -> np.ndarray:
    """Every start and the `span - 1` steps after it."""
    begun = np.cumsum(starts, axis=1)
    over = np.zeros_like(begun)
    over[:, span:] = begun[:, :-span]
    return begun > over


def draw_distractors(hidden: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """For every hidden step other hidden steps of the same sequence, drawn evenly and each time anew: int64 `(batch,
    width, min(count, width - 1))`.

    A sequence with fewer than `count` others gives as many draws as it has others; what is beyond, and every step that
    is not hidden, has -1.

    Args:
        hidden: bool `(batch, width)`; each sequence has none or at least two hidden steps.

    Raises:
        UserError: `count` is below 1, or a sequence has a single hidden step.
    """
    if count < 1:
        raise UserError(f"a hidden step needs at least 1 distractor, found {count}")
    number = hidden.sum(axis=1)
    if (number == 1).any():
        raise UserError("a sequence has a single hidden step: there is nothing to tell it apart from; hide at least 2")
    batch, width = hidden.shape
    places = np.argsort(~hidden, axis=1, kind="stable")  # hidden steps first, in their order
    rank = np.cumsum(hidden, axis=1) - 1
    others = np.maximum(number - 1, 1)[:, None, None]
    drawn = np.floor(generator.random((batch, width, min(count, width - 1))) * others).astype(np.int64)
    drawn += drawn >= rank[:, :, None]  # step over the step itself
    found = np.take_along_axis(places, drawn.reshape(batch, -1) % width, axis=1).reshape(drawn.shape)
    used = hidden[:, :, None] & (np.arange(drawn.shape[2]) < (number - 1)[:, None, None])
    return np.where(used, found, -1)
