"""What wav2vec 2.0 and w2v-BERT share: spans of an utterance are hidden, and its own steps, named by learned codes, are
what the encoder must find there.

Two losses at two depths. After `contrastive_layers` layers a hidden step is told apart from other hidden steps of the
same utterance (contrastive, with a diversity loss that keeps all codes in use); after the last layer the number of its
code is predicted (masked prediction). No gradient reaches the codes through that number.

What is quantised are the features before anything is hidden: what the encoder's projection makes of them, as the paper
quantises what its convolutions learn (`quantised: projected`; the encoder may then learn features that are easy to
name, down to a collapse), or the normalised log-mel features themselves, as fairseq's version does (`quantised:
input`), which cannot collapse through the encoder.

An utterance that is shorter than a span has nothing hidden and counts for nothing (`skipped` in the log).

Sources: A. Baevski et al., "wav2vec 2.0", 2020; Y.-A. Chung et al., "W2v-BERT", 2021, section 3; fairseq's w2vbert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from warmstart.errors import DataError, ModelError
from warmstart.objectives import Batch, Head, Loss, Row
from warmstart.objectives.blocks import NO_TARGET, CrossEntropy
from warmstart.objectives.quantiser import (
    Quantiser,
    annealed,
    code_perplexity,
    contrastive_logits,
    contrastive_loss,
    diversity_loss,
)
from warmstart.objectives.spans import FEWEST, draw_distractors, draw_spans
from warmstart.objectives.speech import SpeechObjective, hiding, padded_length, row_features, speech_batch

SMALL_MODEL = 10_000_000
"""Weights; a smaller model gets fewer codes unless told otherwise."""
RANDOM_FILL = 0.1
"""Standard deviation of the random vectors that may stand in the place of hidden steps."""
Weight = Annotated[float, Field(ge=0)]


class SpeechHeads(nn.Module):
    """The quantiser and the projections of both losses, which train beside the encoder and are left out of the exported
    model; and the number of updates, by which the temperature falls."""

    updates: torch.Tensor

    def __init__(self, width: int, features: int, codes: int, size: int, predict: bool) -> None:
        super().__init__()
        self.quantiser = Quantiser(features, codes, size)
        self.context = nn.Linear(width, size)
        self.target = nn.Linear(size, size)
        self.predict = nn.Linear(width, codes) if predict else None
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))


class MaskedSpeech(SpeechObjective):
    """The settings and the work of both objectives."""

    head: ClassVar[Head] = "speech"
    chance: Annotated[float, Field(gt=0, lt=1)] = Field(0.065, description="That a step is the start of a span.")
    span: Annotated[int, Field(ge=1)] = Field(10, description="Hidden steps of a span.")
    mask_fill: Literal["learned", "random"] = Field(
        "learned", description="What stands in the place of a hidden step: one learned vector, or random ones."
    )
    distractors: Annotated[int, Field(ge=1)] = Field(
        100, description="K: hidden steps that a step is told apart from; fewer where an utterance has fewer."
    )
    logit_temperature: Annotated[float, Field(gt=0)] = Field(0.1, description="kappa: what cosines are divided by.")
    quantised: Literal["projected", "input"] = Field(
        "projected", description="projected: what the encoder's layers read; input: its normalised log-mel features."
    )
    codes: Annotated[int, Field(ge=2)] | None = Field(
        None, description="V; default: 1024, of a model with fewer than 10 million weights 256."
    )
    code_size: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Width of a code and of what is compared; default: the encoder's."
    )
    alpha: Weight = Field(0.1, description="How often the diversity loss counts, beside the contrastive one.")
    temperature: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (2.0, 0.5), description="Of the drawn codes: at the start, and the lowest."
    )
    decay: Annotated[float, Field(gt=0, le=1)] = Field(
        0.999995, description="What the temperature is multiplied by at each update."
    )

    @property
    def weights(self) -> tuple[float, float]:
        """beta and gamma: how often the contrastive and the predictive loss count."""
        raise NotImplementedError

    def contrastive_depth(self, layers: int) -> int:
        """After how many of so many layers the contrastive loss stands."""
        raise NotImplementedError

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> SpeechHeads:
        """The quantiser and the projections.

        Raises:
            ModelError: the model is no speech encoder of these steps, or has too few layers.
        """
        encoder = self.check_encoder(model)
        config, layers = encoder.config, encoder.config.num_hidden_layers
        depth = self.contrastive_depth(layers)
        if not 1 <= depth <= layers:
            raise ModelError(
                f"objective {self.name}: contrastive_layers {depth} of an encoder with {layers}: must be 1 to {layers}"
            )
        if self.mask_fill == "learned" and not hasattr(encoder, "masked_spec_embed"):
            raise ModelError(
                f"objective {self.name}: the encoder has no vector for hidden steps (its mask_time_prob is 0); "
                "set mask_fill: random"
            )
        codes = self.codes or (1024 if sum(p.numel() for p in encoder.parameters()) >= SMALL_MODEL else 256)
        width = config.hidden_size
        features = width if self.quantised == "projected" else config.feature_projection_input_dim
        return SpeechHeads(width, features, codes, self.code_size or width, self.weights[1] > 0)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """`input_features`, float32 `(batch, steps, 80 * stack)`; `attention_mask` and `hidden`, bool `(batch, steps)`;
        `distractors`, int64 `(batch, steps, distractors)`; `labels`, int64 `(batch, steps)`: 0 at hidden steps, -100
        elsewhere.

        An utterance that is longer than the longest of `lengths` is cut to it, at a random place.

        Raises:
            DataError: a row without a sound, or a batch without an utterance that is long enough.
        """
        longest = max(self.lengths)
        found = [_cut(row_features(row, self.stack), longest, generator) for row in rows]
        steps = np.array([len(features) for features in found])
        fit = steps >= max(self.span, FEWEST)
        if not fit.any():
            seconds = max(self.span, FEWEST) * self.stack / 100
            raise DataError(
                f"objective {self.name}: no utterance of the batch is as long as a span of {self.span} steps "
                f"({seconds:g} s), e.g. row {rows[0].get('id', '?')}; lower span, or leave short utterances out"
            )
        batch = speech_batch(found, padded_length(int(steps.max()), self.lengths))
        hidden = np.zeros(tuple(batch["attention_mask"].shape), dtype=bool)
        hidden[fit] = draw_spans(steps[fit], hidden.shape[1], self.chance, self.span, generator)
        return batch | {
            "hidden": torch.from_numpy(hidden),
            "distractors": torch.from_numpy(draw_distractors(hidden, self.distractors, generator)),
            "labels": torch.from_numpy(np.where(hidden, 0, NO_TARGET)),
        }

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """beta (contrastive + alpha diversity) + gamma masked prediction: means over hidden steps, nats.

        In training mode the codes, and with `mask_fill: random` in every mode what fills hidden steps, are drawn from
        PyTorch's global random state.

        Raises:
            ModelError: `extra` is not what `start` returned.
        """
        if not isinstance(extra, SpeechHeads):
            raise ModelError(f"objective {self.name}: its loss needs the heads that start(model) returned")
        encoder, hidden = self.check_encoder(model), batch["hidden"]
        beta, gamma = self.weights
        with hiding(encoder, hidden, lambda: self._fill(encoder, hidden)) as kept:
            output = model(
                input_features=batch["input_features"],
                attention_mask=batch["attention_mask"],
                output_hidden_states=True,
            )
        context = output.hidden_states[self.contrastive_depth(encoder.config.num_hidden_layers)]
        features = kept.projected if self.quantised == "projected" else kept.normed
        assert features is not None
        with torch.autocast(features.device.type, enabled=False):  # cosines and codes in full precision
            codes = extra.quantiser.logits(features)
            likeliest = codes.argmax(dim=-1)
            parts = {
                "code_perplexity": code_perplexity(likeliest, hidden, codes.shape[-1]),
                "skipped": (~hidden.any(dim=1)).float().mean(),
            }
            each = torch.zeros(hidden.shape, device=hidden.device)
            total = each.sum()
            right = torch.zeros_like(hidden)
            if beta > 0:
                temperature = annealed(self.temperature, self.decay, extra.updates)
                vectors, drawn = extra.quantiser(codes, temperature)
                logits = contrastive_logits(
                    extra.context(context.float()),
                    extra.target(vectors),
                    drawn,
                    batch["distractors"],
                    self.logit_temperature,
                )
                diversity = diversity_loss(codes, hidden)
                nats, right = contrastive_loss(logits), logits.detach().argmax(dim=-1) == 0
                each, total = beta * nats, beta * self.alpha * diversity
                parts |= {"diversity": diversity.detach(), "temperature": temperature}
                parts |= _told("contrastive", nats, right, hidden)
            if gamma > 0 and extra.predict is not None:
                guesses = extra.predict(output.hidden_states[-1].float())
                wanted = torch.where(hidden, likeliest, NO_TARGET)
                nats = CrossEntropy.apply(guesses.flatten(0, 1), wanted.flatten()).view(hidden.shape)
                right = guesses.detach().argmax(dim=-1) == likeliest
                each = each + gamma * nats
                parts |= _told("prediction", nats, right, hidden)
        if extra.training:
            extra.updates += 1
        in_row, of_row = hidden.sum(dim=1), torch.where(hidden, each, 0.0).sum(dim=1)
        return Loss(
            total=total + of_row.sum() / in_row.sum().clamp(min=1),
            targets=in_row.sum(),
            parts=parts,
            per_row=(of_row / in_row.clamp(min=1)).detach(),
            right=(right & hidden).sum(),
        )

    def _fill(self, encoder: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """What stands in the place of hidden steps: `(width,)`, or `(batch, steps, width)`."""
        config: Any = encoder.config
        if self.mask_fill == "random":
            return RANDOM_FILL * torch.randn(*hidden.shape, config.hidden_size, device=hidden.device)
        learned: Any = encoder.masked_spec_embed
        return learned


def _cut(features: np.ndarray, longest: int, generator: np.random.Generator) -> np.ndarray:
    """At most `longest` steps, from a random place."""
    first = int(generator.integers(max(1, len(features) - longest + 1)))
    return features[first : first + longest]


def _told(name: str, nats: torch.Tensor, right: torch.Tensor, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """The mean loss of a task over hidden steps, and the share of them that is right, for the log."""
    count = hidden.sum().clamp(min=1)
    loss = torch.where(hidden, nats.detach(), 0.0).sum() / count
    return {f"{name}/loss": loss, f"{name}/accuracy": (right & hidden).sum() / count}
