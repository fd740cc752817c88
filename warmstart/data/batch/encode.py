"""Texts to token ids, with the marks that separate documents.

The tokenizer's own post-processor adds what its model family expects ([CLS] ... [SEP], <s> ... </s>, <s>
...); where that leaves the end open, the end-of-text token is appended, and on request the begin-of-text token put
before. A document's context (a metadata header) goes between the marks in front and the text, and is tokenised apart
from it, so that the text has the same tokens with and without. Names of special tokens that occur in a text
("[MASK]", "<|endoftext|>") are tokenised as ordinary text, so that no document can fake a mark.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from warmstart.data.batch import Tokens
from warmstart.data.cache import digest
from warmstart.errors import ModelError


class Encoder:
    """A private copy of a fast tokenizer's machinery, set for whole documents.

    Args:
        begin: put the begin-of-text token before each document where the tokenizer does not do so itself.
        end: put the end-of-text token after each document where the tokenizer does not end it itself.

    Attributes:
        key: a digest of everything that decides the ids.
        vocabulary: how many ids there are.
        padding: the id that fills a block that no document fills.

    Raises:
        ModelError: not a fast tokenizer, or one without an end-of-text token (or, with `begin`, without a mark for the
            beginning).
    """

    def __init__(self, tokenizer: Any, *, begin: bool = False, end: bool = True) -> None:
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
        if end and (not probe or probe[-1] not in ends):
            if tokenizer.eos_token_id is None:
                raise ModelError(
                    f"tokenizer: {tokenizer.name_or_path or type(tokenizer).__name__} has no "
                    "end-of-text token (eos_token), which separates documents"
                )
            self._end = [tokenizer.eos_token_id]
        text_ids = self._machine.encode("a", add_special_tokens=False).ids
        front = len(probe) - len(text_ids) - (1 if probe and probe[-1] in ends else 0)
        self._front = probe[: max(front, 0)]
        if begin and not self._front:
            mark = next((i for i in (tokenizer.bos_token_id, tokenizer.cls_token_id) if i is not None), None)
            if mark is None:
                raise ModelError("data.begin_of_text: the tokenizer has no begin-of-text token (bos_token, cls_token)")
            self._front, self._added = [mark], [mark]
        else:
            self._added = []
        self.vocabulary = max(tokenizer.get_vocab().values()) + 1
        self.padding = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
        self.key = digest(content_of(text), self._added, self._end, self.padding)

    def __call__(self, texts: list[str], contexts: list[str] | None = None) -> list[Tokens]:
        """The tokens of each text, special ones included, each after its context ('' = none)."""
        found = self._machine.encode_batch_fast(texts, add_special_tokens=True)
        ids = [self._added + encoding.ids + self._end for encoding in found]
        if contexts is None or not any(contexts):
            return [Tokens(np.array(each, dtype=np.int32)) for each in ids]
        heads = self._machine.encode_batch_fast(contexts, add_special_tokens=False)
        front = len(self._front)
        return [
            Tokens(
                np.array(each[:front] + head.ids + each[front:], dtype=np.int32), front + len(head) if len(head) else 0
            )
            for each, head in zip(ids, heads, strict=True)
        ]


def content_of(text: str) -> dict[str, Any]:
    """A serialised tokenizer without the settings of the last call (truncation, padding)."""
    content = json.loads(text)
    return {name: value for name, value in content.items() if name not in ("truncation", "padding")}
