"""A masked language model's own head on the first few dimensions of a hidden state.

The head's first layer sums over the hidden size; given only `d` dimensions it uses its first `d` columns, which is what
the whole head makes of the same state with zeros in the other places. What comes out is as wide as ever, so that the
rest of the head, the vocabulary included, is shared by all sizes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from warmstart.errors import ModelError


class PrefixHead:
    """The head of a BERT or RoBERTa masked language model, by its parts; it owns no weights.

    Raises:
        ModelError: the model has no such head.
    """

    def __init__(self, model: nn.Module) -> None:
        inner: Any = getattr(model, "module", model)
        if hasattr(inner, "cls") and hasattr(inner.cls, "predictions"):
            transform = inner.cls.predictions.transform
            self.dense, self.activation, self.norm = transform.dense, transform.transform_act_fn, transform.LayerNorm
            self.vocabulary = inner.cls.predictions.decoder
        elif hasattr(inner, "lm_head") and hasattr(inner.lm_head, "layer_norm"):
            head = inner.lm_head
            self.dense, self.activation, self.norm = head.dense, functional.gelu, head.layer_norm
            self.vocabulary = head.decoder
        else:
            raise ModelError(
                f"{type(inner).__name__} has no masked head like BERT's or RoBERTa's, which is needed here"
            )

    def transformed(self, states: torch.Tensor) -> torch.Tensor:
        """What stands before the vocabulary, `(..., hidden size)`, from the first dimensions of states `(..., d)`."""
        weight = self.dense.weight[:, : states.shape[-1]]
        return self.norm(self.activation(functional.linear(states, weight, self.dense.bias)))

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Logits `(..., vocabulary)`."""
        return self.vocabulary(self.transformed(states))
