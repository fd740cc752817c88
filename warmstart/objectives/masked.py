"""Masked language modelling: hidden tokens are predicted from both sides.

Of the chosen tokens 80 % become the mask token, 10 % a random token, 10 % stay as they are (so that the
model cannot take an unmasked token for granted). With `whole_word` the choice falls on words, and every
token of a chosen word is a target; each token still draws its own fate.

`fates: [0, 1, 0]` is SLM, masked language modelling without a mask: every chosen token becomes a random one, so that
the model never reads a token in training that it will not meet afterwards, and must find out by itself which tokens are
wrong. A random token may be the one that was there, once in a vocabulary's size.

Sources: J. Devlin et al., "BERT", 2018, section 3.1 and appendix A.1; SLM: "Structural Self-Supervised Objectives for
Transformers" (arXiv 2309.08272), part 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from torch import nn

from warmstart.errors import ModelError
from warmstart.objectives import Batch, Head, Loss, Objective, Row
from warmstart.objectives.bidirectional import batch_of, draw_tokens, places_of, vocabulary_of
from warmstart.objectives.blocks import NO_TARGET, stacked, token_loss
from warmstart.objectives.output_layer import token_loss_of

Share = Annotated[float, Field(ge=0, le=1)]


class Masked(Objective):
    """BERT's masked language modelling, and with other `fates` SLM.

    Example:
        In one's own loop, with a model and a tokenizer of `transformers` and rows of packed text::

            objective = Masked(fates=(0, 1, 0))
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            generator = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, generator)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["masked"] = "masked"
    head: ClassVar[Head] = "masked"
    layouts: ClassVar[tuple[str, ...]] = ("padded", "bucketed", "unpadded")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Share of the tokens that are targets.")
    whole_word: bool = Field(False, description="Choose whole words instead of single tokens.")
    fates: tuple[Share, Share, Share] = Field(
        (0.8, 0.1, 0.1),
        description="What becomes of a chosen token: the shares of the mask token, of a random token, and of itself.",
    )

    @field_validator("fates")
    @classmethod
    def _shares(cls, fates: tuple[float, float, float]) -> tuple[float, float, float]:
        if not math.isclose(sum(fates), 1.0, abs_tol=1e-6):
            raise ValueError(f"the three shares must add up to 1, found {sum(fates):g}")
        return fates

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids`, `position_ids`, `labels`: int64 `(batch, length)`.

        Where some block holds several documents also `documents`, int64 `(batch, length)`; where there is only
        padding to hide, `attention_mask`, bool `(batch, length)`.

        Raises:
            ModelError: the tokenizer has no mask token, and one is needed.
        """
        vocabulary = vocabulary_of(tokenizer)
        masked, random, _ = self.fates
        if masked > 0 and vocabulary.mask is None:
            raise ModelError(
                "objective masked: the tokenizer has no mask token; use a masked model's tokenizer, or train one"
            )
        tokens = stacked(rows, "tokens")
        chosen = draw_tokens(rows, vocabulary, self.rate, generator, self.whole_word)
        fate = generator.random(tokens.shape, dtype=np.float32)
        random_tokens = vocabulary.choices[generator.integers(len(vocabulary.choices), size=tokens.shape)]
        visible = np.where(chosen & (fate >= 1 - random), random_tokens, tokens)
        if vocabulary.mask is not None:
            visible = np.where(chosen & (fate < masked), vocabulary.mask, visible)
        return batch_of(rows, input_ids=visible, labels=np.where(chosen, tokens, NO_TARGET))

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean cross entropy of the hidden tokens, nats."""
        output = model(input_ids=batch["input_ids"], **places_of(model, batch))
        return token_loss(output.logits, batch["labels"])

    def loss_without_logits(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        return token_loss_of(model, batch["labels"], input_ids=batch["input_ids"], **places_of(model, batch))
