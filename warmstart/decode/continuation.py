"""A causal model that reads texts as they grow: what it has read stays in its cache, and the end can be taken back."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from warmstart.errors import ModelError
from warmstart.models.evaluating import evaluating


class Continuation:
    """A batch of texts that grow at the right end, under one model.

    Appending costs nothing; tokens are read, in one pass, when `logits` is asked for. Prompts of different lengths are
    filled up at the left, where `attention_mask` hides the filling; positions count from the first real token.

    Args:
        model: a causal model of transformers; it is used in evaluation mode, without gradients, and left as it was.
        input_ids: the prompts, int64 `(batch, tokens)`, at least one token.
        attention_mask: 1 for tokens and 0 for filling, `(batch, tokens)`; default: no filling.
    """

    def __init__(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._ids = input_ids.to(self.device)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        self._mask = mask.to(self.device, torch.long)
        if self._ids.shape != self._mask.shape or not self._ids.shape[1]:
            raise ValueError(
                f"a prompt needs at least one token, and its mask the same shape; found {tuple(self._ids.shape)} and "
                f"{tuple(self._mask.shape)}"
            )
        self._cache: Any = None
        self._read = 0
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def __len__(self) -> int:
        """Tokens of a text, filling included, read or not."""
        return int(self._ids.shape[1])

    def append(self, ids: torch.Tensor) -> None:
        """Puts tokens `(batch, tokens)` behind the texts."""
        ids = ids.to(self.device)
        self._ids = torch.cat([self._ids, ids], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)

    def logits(self, count: int = 1) -> torch.Tensor:
        """The logits after each of the last `count` tokens, `(batch, count, vocabulary)`; reads what is not read yet.

        Raises:
            ValueError: more than are not read yet.
        """
        unread = len(self) - self._read
        if not 0 < count <= unread:
            raise ValueError(f"the logits of {count} tokens were asked for, and {unread} are not read yet")
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)
        with evaluating(self.model):
            output = self.model(
                input_ids=self._ids[:, self._read :],
                attention_mask=self._mask,
                position_ids=positions[:, self._read :],
                past_key_values=self._cache,
                use_cache=True,
                **({"logits_to_keep": count} if self._keeps else {}),
            )
        self._cache, self._read = output.past_key_values, len(self)
        return output.logits[:, -count:]

    def cut(self, count: int) -> None:
        """Takes the last `count` tokens back, also out of the cache.

        Raises:
            ModelError: the model's cache cannot forget (a sliding window that has slid, a recurrent state).
        """
        if not count:
            return
        self._ids, self._mask = self._ids[:, :-count], self._mask[:, :-count]
        forget = self._read - len(self)
        if forget > 0:
            try:
                self._cache.crop(-forget)
            except (AttributeError, RuntimeError, NotImplementedError) as error:
                kind = getattr(self.model.config, "model_type", type(self.model).__name__)
                raise ModelError(
                    f"the cache of a {kind} model cannot take tokens back, which drafting needs: {error}"
                ) from error
            self._read = len(self)
