"""Other models in `model.generate`: a logits processor that brings their logits along and combines all of them.

The other models keep caches of their own, in step with `generate`. They may read other prompts than the first model (a
chat template for the fine-tuned one, plain text for the base); the tokens that follow are the same for all.
`transformers` applies temperature, top-k and top-p after it, so to the combined distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from warmstart.decode.continuation import Continuation

Combine = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""The logits of every model, each `(..., vocabulary)`, to log-probabilities of the same shape."""
Prompt = tuple[torch.Tensor, torch.Tensor | None]
"""`input_ids` and `attention_mask`, `(batch, tokens)`, filled up at the left; None: nothing is filling."""
Prompts = Sequence[Prompt | None]


class ComposedLogits(LogitsProcessor):
    """Combines the logits of the model that generates with those of others. One object serves one call of `generate`.

    Greedy decoding and sampling read one token per step; beam search, which swaps texts between steps, reads a swapped
    batch anew from its prompts.

    Args:
        others: causal models of transformers with the same vocabulary, on any device.
        combine: gets a list: the logits of the generating model, then of each of the others.
        prompts: for each of the others its own prompts, or None for those of the generating model.
        attention_mask: of the generating model's prompts, needed where they are filled up; `(batch, tokens)`.

    Raises:
        ValueError: not as many prompts as others.
    """

    def __init__(
        self,
        others: Sequence[Any],
        combine: Combine,
        *,
        prompts: Prompts | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> None:
        if prompts is not None and len(prompts) != len(others):
            raise ValueError(f"{len(prompts)} prompts for {len(others)} models: give one for each, or None")
        self.others, self.combine = list(others), combine
        self._prompts = list(prompts) if prompts is not None else [None] * len(self.others)
        self._mask = attention_mask
        self._start = 0
        self._last: torch.Tensor | None = None
        self._texts: list[Continuation] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the next token, `(batch, vocabulary)`; tokens beyond the common vocabulary are -inf.

        Args:
            input_ids: everything so far, `(batch, tokens)`.
            scores: the generating model's logits, `(batch, vocabulary)`.

        Raises:
            ValueError: the texts are not those of the step before with one more token: another call of `generate`.
        """
        if self._last is None:
            self._start = input_ids.shape[1]
            self._begin(input_ids)
        elif input_ids.shape[1] != self._last.shape[1] + 1:
            raise ValueError(
                f"a processor serves one call of generate: the texts had {self._last.shape[1]} tokens, now "
                f"{input_ids.shape[1]}; make a new one for each call"
            )
        elif torch.equal(input_ids[:, :-1], self._last):
            for text in self._texts:
                text.append(input_ids[:, -1:])
        else:
            self._begin(input_ids)
        self._last = input_ids.clone()
        logits = [scores, *(text.logits()[:, -1].to(scores.device) for text in self._texts)]
        size = min(each.shape[-1] for each in logits)
        combined = self.combine([each[..., :size] for each in logits]).to(scores.dtype)
        if size == scores.shape[-1]:
            return combined
        result = torch.full_like(scores, float("-inf"))
        result[:, :size] = combined
        return result

    def _begin(self, input_ids: torch.Tensor) -> None:
        """Every model's prompts with what was written after them."""
        batch, written = len(input_ids), input_ids[:, self._start :]
        self._texts = []
        for model, prompt in zip(self.others, self._prompts, strict=True):
            ids, mask = prompt or (input_ids[:, : self._start], self._mask)
            # Several texts grow out of one prompt in beam search, and where several are asked for.
            ids = ids.repeat_interleave(batch // len(ids), dim=0)
            mask = None if mask is None else mask.repeat_interleave(batch // len(mask), dim=0)
            text = Continuation(model, ids, mask)
            text.append(written)
            self._texts.append(text)
