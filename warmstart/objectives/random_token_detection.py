"""Random token detection (RTS): 15 % of the tokens become random ones, and the model says which.

There is no generator to train, and no output as large as the vocabulary: a step is cheap. The price is that a random
token is easy to tell from a sensible one once the model knows which words go together; `clustered-token-detection`
draws harder ones, `replaced-token-detection` trains a generator for that.

A chosen token counts as replaced also where the draw happened to give it back, once in a vocabulary's size
(`exclude_same` avoids that). Substitutes are ordinary tokens; the paper's code draws from all, special ones included.

Source: "Structural Self-Supervised Objectives for Transformers" (arXiv 2309.08272), part 1, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn

from warmstart.objectives import Batch, Head, Loss, Objective, Row
from warmstart.objectives.bidirectional import batch_of, choosable, draw_tokens, places_of, vocabulary_of
from warmstart.objectives.blocks import stacked
from warmstart.objectives.detection import detection_labels, detection_logits, detection_loss, random_tokens


class RandomTokenDetection(Objective):
    """Says of every token whether it is the original or a random one.

    Example:
        In one's own loop, with a token classifier of `transformers` (two labels) and rows of packed text::

            objective = RandomTokenDetection(rate=0.15)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            generator = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, generator)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["random-token-detection"] = "random-token-detection"
    head: ClassVar[Head] = "detection"
    layouts: ClassVar[tuple[str, ...]] = ("padded", "bucketed", "unpadded")
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Share of the tokens that are replaced.")
    whole_word: bool = Field(False, description="Choose whole words instead of single tokens.")
    exclude_same: bool = Field(False, description="Never draw the token that is there.")

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids` with random tokens in them, `position_ids`, `labels`: int64 `(batch, length)`; the label is 1
        where a token was drawn, 0 at other ordinary tokens, -100 at special ones, padding and context.

        `documents` or `attention_mask` as of the objective `masked`.
        """
        vocabulary = vocabulary_of(tokenizer)
        tokens = stacked(rows, "tokens")
        chosen = draw_tokens(rows, vocabulary, self.rate, generator, self.whole_word)
        drawn = random_tokens(tokens, vocabulary, generator, self.exclude_same)
        labels = detection_labels(chosen, choosable(rows, vocabulary))
        return batch_of(rows, input_ids=np.where(chosen, drawn, tokens), labels=labels)

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean binary cross entropy over all ordinary tokens, nats."""
        output = model(input_ids=batch["input_ids"], **places_of(model, batch))
        return detection_loss(detection_logits(output), batch["labels"])
