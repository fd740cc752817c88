"""Where words begin in a row of tokens, read from the tokens' own spelling.

WordPiece marks a token that goes on with a word by `##`. Byte-level BPE and SentencePiece mark the white
space before a word (`Ġ`, `Ċ`, `▁`); and since `self.name` has no white space, a word also ends where
letters, digits and other signs change, as in the split that byte-level BPE makes before it merges. Bytes of
a character beyond ASCII count as letters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers.models import WordPiece

SPACES = tuple("Ġ▁Ċĉč")
SPECIAL, LETTER, DIGIT, OTHER = range(4)


class Words:
    """Word boundaries of a fast tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        spelling = {number: token for token, number in tokenizer.get_vocab().items()}
        tokens = [spelling.get(number, "") for number in range(max(spelling) + 1)]
        special = set(tokenizer.all_special_ids)
        self._word_piece = isinstance(tokenizer.backend_tokenizer.model, WordPiece)
        if self._word_piece:
            self._begins = np.array([i in special or not t.startswith("##") for i, t in enumerate(tokens)])
            return
        self._begins = np.array([i in special or t.startswith(SPACES) for i, t in enumerate(tokens)])
        kinds = [
            (SPECIAL, SPECIAL) if i in special or not t else (_kind(t[0]), _kind(t[-1])) for i, t in enumerate(tokens)
        ]
        self._first, self._last = np.array(kinds, dtype=np.int8).T

    def starts(self, tokens: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Which tokens begin a word, `(batch, length)` like both arguments; the first of a row always does."""
        begins = self._begins[tokens]
        begins[:, 0] = True
        begins[:, 1:] |= documents[:, 1:] != documents[:, :-1]
        if not self._word_piece:
            begins[:, 1:] |= self._first[tokens[:, 1:]] != self._last[tokens[:, :-1]]
        return begins


def _kind(character: str) -> int:
    if character.isalpha():
        return LETTER
    return DIGIT if character.isdigit() else OTHER
