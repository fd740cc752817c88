"""Decoding: what happens between trained models and their text. Plain functions, and parts that call them.

A part of this room makes one distribution of the next token out of several causal models, at least one of them a
stage's own (called `stage`). Under `evaluate.decode` it decides what the stage's evaluators look at::

    evaluate: {decode: {type: emulated, base: large, reference: small}}

Nothing is trained by it: the models keep their weights, and only their log-probabilities meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from warmstart.part import Part

if TYPE_CHECKING:
    from warmstart.decode.composed import Composed


class Decoding(Part, room="decode"):
    """The contract of a composition at inference."""

    def compose(self, model: nn.Module, tokenizer: Any) -> Composed:
        """The stage's model together with the others, as one causal model that is never trained.

        Args:
            model: the stage's model; it is not copied, so that the composition follows its training.
            tokenizer: the stage's tokenizer, which the others must share.

        Raises:
            ModelError: a model cannot be loaded, or has another vocabulary.
        """
        raise NotImplementedError
