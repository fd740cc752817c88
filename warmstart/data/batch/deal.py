"""Dealing the texts of one global step to ranks (or micro-batches), so that all have about equally many tokens.

Texts are sorted by length, descending, and dealt out like cards: always in the same direction (`stride`), or back and
forth (`snake`), so that the rank that gets the longest text of one round gets the shortest of the next. A rank's own
texts stay in descending order, which length groups need. Who computes a text does not change the gradient as long as
the loss is normalised over the whole step; sorting *across* steps would, and is not done here.

No data moves: every rank knows all lengths of the step and computes the same deal.

Source: "exchange padding" of J. Zeng et al., "Boosting Distributed Training Performance of the Unpadded BERT Model",
2022; the snake is ours.
"""

from __future__ import annotations

from collections.abc import Sequence


def descending(lengths: Sequence[int]) -> list[int]:
    """The texts' numbers from the longest to the shortest; equal ones stay in their order."""
    return sorted(range(len(lengths)), key=lambda text: -lengths[text])


def stride(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Rank r gets the sorted texts r, r + ranks, r + 2 ranks, ...

    Args:
        lengths: of all texts of the step.
        ranks: how many hands to deal to.

    Returns:
        the texts' numbers for each rank, in descending order of length.

    Raises:
        ValueError: the texts cannot be shared out evenly.
    """
    order = _even(lengths, ranks)
    return [order[rank::ranks] for rank in range(ranks)]


def snake(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """As `stride`, but every second round is dealt from the last rank to the first."""
    order = _even(lengths, ranks)
    hands: list[list[int]] = [[] for _ in range(ranks)]
    for number, first in enumerate(range(0, len(order), ranks)):
        turn = order[first : first + ranks]
        for hand, text in zip(hands, turn if number % 2 == 0 else reversed(turn), strict=True):
            hand.append(text)
    return hands


def _even(lengths: Sequence[int], ranks: int) -> list[int]:
    if ranks < 1 or len(lengths) % ranks:
        raise ValueError(f"{len(lengths)} texts cannot be dealt evenly to {ranks} ranks")
    return descending(lengths)
