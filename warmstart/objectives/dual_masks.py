"""Two masks of whole words for one text, the smaller inside the larger: what a masked autoencoder hides from its
encoder and from its decoder.

The words of a row are taken in a random order. A word joins the larger mask as long as its tokens fit into that mask's
share of the row, and the smaller mask as well while they fit there; words that are too long for what is left are passed
over. So all tokens of a word are masked or none, and what the encoder does not see its decoder does not see either.

Source: ielab/Starbucks (smae/data.py), as its method card tells it.
"""

from __future__ import annotations

import numpy as np

from warmstart.objectives.bidirectional import Vocabulary


def dual_whole_word_masks(
    starts: np.ndarray, candidates: np.ndarray, smaller: float, larger: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The smaller and the larger mask, bool `(rows, length)`; each of round(share * candidates) tokens of a row at
    most, and of at least one where a word fits.

    Args:
        starts: which tokens begin a word, bool `(rows, length)`.
        candidates: which may be masked; a word with others in it is left alone.
        smaller, larger: shares of a row's candidates, the first not above the second.
    """
    inner, outer = np.zeros_like(candidates), np.zeros_like(candidates)
    for row in range(len(candidates)):
        numbers = np.cumsum(starts[row]) - 1
        sizes = np.bincount(numbers)
        whole = np.bincount(numbers, weights=candidates[row]) == sizes
        count = candidates[row].sum()
        rooms = [max(1, round(share * count)) for share in (larger, smaller)]
        taken = np.zeros((2, len(sizes)), dtype=bool)
        for word in generator.permutation(len(sizes)):
            if whole[word] and sizes[word] <= rooms[0]:
                rooms[0] -= sizes[word]
                taken[0, word] = True
                if sizes[word] <= rooms[1]:
                    rooms[1] -= sizes[word]
                    taken[1, word] = True
        outer[row], inner[row] = taken[0][numbers], taken[1][numbers]
    return inner, outer


def corrupted(
    tokens: np.ndarray, chosen: np.ndarray, vocabulary: Vocabulary, generator: np.random.Generator
) -> np.ndarray:
    """The tokens with the chosen ones hidden as in BERT: 80 % the mask token, 10 % a random one, 10 % as they are."""
    assert vocabulary.mask is not None
    fate = generator.random(tokens.shape, dtype=np.float32)
    random = vocabulary.choices[generator.integers(len(vocabulary.choices), size=tokens.shape)]
    visible = np.where(chosen & (fate >= 0.9), random, tokens)
    return np.where(chosen & (fate < 0.8), vocabulary.mask, visible)
