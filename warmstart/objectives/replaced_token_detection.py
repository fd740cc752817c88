"""Replaced token detection (ELECTRA): a small generator fills in hidden tokens, and the model says which are not the
originals.

The generator learns by masked language modelling beside the model and is thrown away afterwards. Its replacements fit
their place, so that finding them takes more than knowing which words go together; that is what makes it learn more from
a token than masked language modelling does. The price is the generator: its passes (counted in the FLOPs), its memory,
and that it may become so good that few tokens are wrong (`replaced` in the log; a tenth is healthy).

As in the official code: round(15 % of a row's tokens) are hidden, at least one, of which 85 % become the mask token and
15 % stay as they are, none a random one; a token that the generator guesses right is an original; the detector's loss
is a mean over all tokens, special ones included, and counts fifty times. Unlike there no place is drawn twice.

Sources: K. Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020, and
google-research/electra.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.errors import ModelError
from warmstart.objectives import Batch, Head, Loss, Objective, Row
from warmstart.objectives.bidirectional import batch_of, choosable, places_of, vocabulary_of
from warmstart.objectives.blocks import NO_TARGET, CrossEntropy, context_of, stacked
from warmstart.objectives.detection import ORIGINAL, REPLACED, detection_logits, detection_loss
from warmstart.objectives.generator import Generator, sample_tokens

MASKED = 0.85


def draw_places(candidates: np.ndarray, lengths: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """For each row the places of round(rate * length) candidates, at least one, ascending, then -1: int64
    `(batch, most)`. A row with fewer candidates gives all it has.

    Args:
        candidates: which tokens may be chosen, bool `(batch, length)`.
        lengths: real tokens of each row, `(batch,)`.
    """
    most = max(1, round(rate * candidates.shape[1]))
    order = np.where(candidates, generator.random(candidates.shape), 2.0).argsort(axis=1)[:, :most]
    wanted = np.maximum(1, np.round(rate * lengths)).astype(np.int64)
    number = np.minimum(wanted, candidates.sum(axis=1))
    chosen = np.where(np.arange(most) < number[:, None], order, candidates.shape[1])
    chosen.sort(axis=1)
    return np.where(chosen < candidates.shape[1], chosen, -1)


class ReplacedTokenDetection(Objective):
    """ELECTRA: a generator and a detector, trained together.

    Example:
        In one's own loop, with `ElectraForPreTraining` or a token classifier with two labels, a tokenizer and rows of
        packed text; the generator's weights are trained too, and those that it shares with the model once::

            objective = ReplacedTokenDetection()
            generator = objective.start(model)
            both = torch.nn.ModuleList([model, generator])
            optimizer = torch.optim.AdamW(both.parameters(), lr=1e-3)
            draws = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, draws)
                loss = objective.loss(model, batch, generator)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["replaced-token-detection"] = "replaced-token-detection"
    head: ClassVar[Head] = "detection"
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="Share of the tokens that are hidden.")
    weight: Annotated[float, Field(ge=0)] = Field(50.0, description="lambda: how often the detector's loss counts.")
    width: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="The generator's hidden size, as a share of the model's; not below 64."
    )
    depth: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Its layers, as a share of the model's.")
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Of its distribution when it is sampled.")

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> Generator:
        """The generator, which shares the model's tables of embeddings."""
        return Generator(model, self.width, self.depth)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_ids` (the originals), `masked_ids` (what the generator reads), `position_ids`, and `labels`, 0 at all
        tokens but padding and context, there -100: int64 `(batch, length)`.

        And of the hidden tokens, `(batch, hidden)`: their `places`, int64; `draws`, float32, which decide what is
        sampled there; and `weights`, float32: 0 where a row has fewer, else such that their sum over the step is its
        number of labels, so that micro-batches add up to the whole.

        Raises:
            ModelError: the tokenizer has no mask token.
        """
        vocabulary = vocabulary_of(tokenizer)
        if vocabulary.mask is None:
            raise ModelError(f"objective {self.name}: the tokenizer has no mask token for the generator; train another")
        tokens, real = stacked(rows, "tokens"), stacked(rows, "documents") >= 0
        places = draw_places(choosable(rows, vocabulary), real.sum(axis=1), self.rate, generator)
        hidden = places >= 0
        masked = tokens.copy()
        row, number = np.nonzero(hidden & (generator.random(places.shape) < MASKED))
        masked[row, places[row, number]] = vocabulary.mask
        targets = real & ~context_of(rows)
        return batch_of(
            rows,
            input_ids=tokens,
            masked_ids=masked,
            labels=np.where(targets, ORIGINAL, NO_TARGET),
        ) | {
            "places": torch.from_numpy(np.maximum(places, 0)),
            "draws": torch.from_numpy(generator.random(places.shape, dtype=np.float32)),
            "weights": torch.from_numpy((hidden * (targets.sum() / max(1, hidden.sum()))).astype(np.float32)),
        }

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """The generator's mean cross entropy at the hidden tokens + `weight` times the detector's mean binary cross
        entropy over all tokens, nats.

        Raises:
            ModelError: `extra` is not what `start` made, or model and generator have different vocabularies.
        """
        if not isinstance(extra, Generator):
            raise ModelError(f"objective {self.name}: its loss needs the generator that start(model) returned")
        original, places, weights = batch["input_ids"], batch["places"], batch["weights"]
        given = places_of(model, batch)
        logits = extra(batch["masked_ids"], places, **places_of(extra.network, batch) | {
            "position_ids": given["position_ids"]  # the generator shares the model's table of positions
        })  # fmt: skip
        wanted = torch.where(weights > 0, original.gather(1, places), NO_TARGET)
        nats = CrossEntropy.apply(logits.flatten(0, 1).float(), wanted.flatten()).view(places.shape) * weights
        drawn = sample_tokens(logits, batch["draws"], self.temperature)
        seen, labels = replace(original, batch["labels"], places, drawn, weights > 0)
        loss = detection_loss(detection_logits(model(input_ids=seen, **given)), labels)
        generator_loss = nats.sum() / loss.targets.clamp(min=1)
        assert loss.per_row is not None
        return Loss(
            total=generator_loss + self.weight * loss.total,
            targets=loss.targets,
            parts=loss.parts
            | {
                "generator/loss": generator_loss.detach(),
                "detector/loss": loss.total.detach(),
                "replaced": (labels == REPLACED).sum() / loss.targets.clamp(min=1),
            },
            per_row=self.weight * loss.per_row
            + nats.detach().sum(dim=1) / (labels != NO_TARGET).sum(dim=1).clamp(min=1),
            right=loss.right,
        )


def replace(
    original: torch.Tensor, labels: torch.Tensor, places: torch.Tensor, drawn: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The text with the drawn tokens in it, and its labels: 1 where a token is another than the original.

    Args:
        original, labels: `(batch, length)`; a label of -100 stays.
        places, drawn, valid: `(batch, hidden)`; where `valid` is false nothing is replaced.
    """
    beside = torch.nn.functional.pad(original, (0, 1))  # a column for what must not be written anywhere
    seen = beside.scatter(1, torch.where(valid, places, original.shape[1]), drawn)[:, :-1]
    return seen, torch.where((labels != NO_TARGET) & (seen != original), REPLACED, labels)
