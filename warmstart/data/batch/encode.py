"""Texts to token ids, with the marks that separate documents.

The tokenizer's own post-processor adds what its model family expects ([CLS] ... [SEP], <s> ... </s>, <s>
...); where that leaves the end open, the end-of-text token is appended. Names of special tokens that occur
in a text ("[MASK]", "<|endoftext|>") are tokenised as ordinary text, so that no document can fake a mark.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from warmstart.data.cache import digest
from warmstart.errors import ModelError


class Encoder:
    """A private copy of a fast tokenizer's machinery, set for whole documents.

    Attributes:
        key: a digest of everything that decides the ids.
        vocabulary: how many ids there are.
        padding: the id that fills a block that no document fills.

    Raises:
        ModelError: not a fast tokenizer, or one without an end-of-text token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(f"tokenizer: {type(tokenizer).__name__} has no fast form, which preparing data needs")
        text = tokenizer.backend_tokenizer.to_str()
        self._machine = Tokenizer.from_str(text)
        self._machine.no_truncation()
        self._machine.no_padding()
        self._machine.encode_special_tokens = True
        ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
        probe = self._machine.encode("a").ids
        self._end: list[int] = []
        if not probe or probe[-1] not in ends:
            if tokenizer.eos_token_id is None:
                raise ModelError(
                    f"tokenizer: {tokenizer.name_or_path or type(tokenizer).__name__} has no "
                    "end-of-text token (eos_token), which separates documents"
                )
            self._end = [tokenizer.eos_token_id]
        self.vocabulary = max(tokenizer.get_vocab().values()) + 1
        self.padding = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        self.key = digest(content_of(text), self._end, self.padding)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, special tokens included."""
        found = self._machine.encode_batch_fast(texts, add_special_tokens=True)
        return [encoding.ids + self._end for encoding in found]


def content_of(text: str) -> dict[str, Any]:
    """A serialised tokenizer without the settings of the last call (truncation, padding)."""
    content = json.loads(text)
    return {name: value for name, value in content.items() if name not in ("truncation", "padding")}
