"""Starbucks masked autoencoding (SMAE): pre-training that makes every size of an encoder put a text into one vector.

At each size, a layer and its first few dimensions, two things are asked: to fill in what is hidden from the encoder (a
fifth of the words), and to let a decoder of a single layer fill in a text of which twice as much is hidden, helped by
nothing but what the head makes of the first token's few dimensions. The decoder shares embeddings and head with the
model, begins as a copy of its first layer, and is thrown away afterwards.

One pass of the encoder serves all sizes; the decoder passes once for each. The head, which is as wide as the
vocabulary, is computed at the hidden tokens alone (the official code computes it everywhere). Not from the official
code: it leaves out parameters whose gradient is not a number; here a loss that is none ends the run.

Source: S. Zhuang et al., "Starbucks: Improved Training for 2D Matryoshka Embeddings" (arXiv 2410.13230), and
ielab/Starbucks (smae); the autoencoder follows S. Xiao et al., "RetroMAE" (arXiv 2205.12035).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from warmstart.errors import DataError, ModelError
from warmstart.models.layers import first_layers, layer_states
from warmstart.objectives import Batch, Head, Loss, Row
from warmstart.objectives.bidirectional import batch_of, choosable, places_of, vocabulary_of
from warmstart.objectives.blocks import NO_TARGET, CrossEntropy, stacked
from warmstart.objectives.dual_masks import corrupted, dual_whole_word_masks
from warmstart.objectives.masked_at_targets import target_places
from warmstart.objectives.prefix_head import PrefixHead
from warmstart.objectives.sizes import OfSizes, size_name


class Decoder(nn.Module):
    """A copy of a model's first layer over the model's own embeddings; the first token's is replaced by a vector.

    Raises:
        ModelError: the model has no module `embeddings` apart from its layers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        trunk: Any = getattr(model, "module", model).base_model
        if not isinstance(getattr(trunk, "embeddings", None), nn.Module):
            raise ModelError(f"{type(trunk).__name__} has no embeddings apart from its layers, which a decoder shares")
        self.network: Any = first_layers(trunk, 1)
        self.network.embeddings = trunk.embeddings
        if getattr(self.network, "pooler", None) is not None:
            self.network.register_module("pooler", None)

    def forward(self, bottleneck: torch.Tensor, input_ids: torch.Tensor, **given: Any) -> torch.Tensor:
        """Hidden states `(batch, length, hidden size)`.

        Args:
            bottleneck: `(batch, hidden size)`, what stands in the place of the first token.
            given: positions and masks, as the model takes them.
        """

        def replace(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return torch.cat([bottleneck[:, None].to(output.dtype), output[:, 1:]], dim=1)

        hook = self.network.embeddings.register_forward_hook(replace)
        try:
            return self.network(input_ids=input_ids, **given).last_hidden_state
        finally:
            hook.remove()


class StarbucksSMAE(OfSizes):
    """Masked language modelling and a masked autoencoder at every one of a few sizes.

    Example:
        In one's own loop, with `BertForMaskedLM`, a tokenizer and rows of tokens, one text in each; the decoder's layer
        is trained too, and the weights that it shares with the model once::

            objective = StarbucksSMAE(sizes=[(1, 8), (2, 32)])
            decoder = objective.start(model)
            both = torch.nn.ModuleList([model, decoder])
            optimizer = torch.optim.AdamW(both.parameters(), lr=1e-4)
            draws = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, draws)
                loss = objective.loss(model, batch, decoder)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["starbucks-smae"] = "starbucks-smae"
    head: ClassVar[Head] = "masked"
    packings: ClassVar[tuple[str, ...]] = ("single",)
    encoder_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="Share of the tokens the encoder misses."
    )
    decoder_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.4, description="Share of the tokens the decoder misses."
    )

    @model_validator(mode="after")
    def _more_for_the_decoder(self) -> StarbucksSMAE:
        if self.encoder_rate > self.decoder_rate:
            raise ValueError(f"encoder_rate {self.encoder_rate:g} is above decoder_rate {self.decoder_rate:g}")
        return self

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> Decoder:
        """The decoder.

        Raises:
            ModelError: the sizes are not those of this model, or its head is none of those that are known.
        """
        self.sizes_of(model)
        PrefixHead(model)
        return Decoder(model)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """What the encoder reads, `input_ids`, and the decoder, `decoder_ids`; `labels` and `decoder_labels`, -100
        where nothing is hidden: int64 `(batch, length)`. `places` and `decoder_places`, `(batch, places)`, say where
        the labels are, filled up with -1; `decoder_weights`, float32 `(batch, places)`, add up to the number of
        `labels` over the step, so that micro-batches add up to the whole.

        Raises:
            ModelError: the tokenizer has no mask token.
            DataError: a block holds several texts.
        """
        vocabulary = vocabulary_of(tokenizer)
        if vocabulary.mask is None:
            raise ModelError(f"objective {self.name}: the tokenizer has no mask token; train another")
        tokens, documents = stacked(rows, "tokens"), stacked(rows, "documents")
        if (documents > documents[:, :1]).any():
            raise DataError(f"objective {self.name}: a block holds several texts; use data.packing: single")
        starts = vocabulary.words.starts(tokens, documents)
        candidates = choosable(rows, vocabulary)
        inner, outer = dual_whole_word_masks(starts, candidates, self.encoder_rate, self.decoder_rate, generator)
        labels, decoder_labels = (np.where(mask, tokens, NO_TARGET) for mask in (inner, outer))
        places, decoder_places = target_places(labels), target_places(decoder_labels)
        weight = inner.sum() / max(1, outer.sum())
        return batch_of(
            rows,
            input_ids=corrupted(tokens, inner, vocabulary, generator),
            decoder_ids=corrupted(tokens, outer, vocabulary, generator),
            labels=labels,
            decoder_labels=decoder_labels,
        ) | {
            "places": torch.from_numpy(places),
            "decoder_places": torch.from_numpy(decoder_places),
            "decoder_weights": torch.from_numpy(((decoder_places >= 0) * weight).astype(np.float32)),
        }

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """The mean over the sizes of half the sum of both cross entropies, nats per hidden token.

        Raises:
            ModelError: `extra` is not what `start` made.
        """
        if not isinstance(extra, Decoder):
            raise ModelError(f"objective {self.name}: its loss needs the decoder that start(model) returned")
        sizes, head = self.sizes_of(model), PrefixHead(model)
        given = places_of(model, batch)
        states = layer_states(model, [layer for layer, _ in sizes], input_ids=batch["input_ids"], **given)
        targets = (batch["labels"] != NO_TARGET).sum()
        parts: dict[str, torch.Tensor] = {}
        total = torch.zeros((), device=targets.device)
        for size, state in zip(sizes, states, strict=True):
            narrow = state[..., : size[1]]
            filled = _cross_entropy(head, narrow, batch["places"], batch["labels"])
            decoded = extra(head.transformed(narrow[:, 0]), batch["decoder_ids"], **given)
            again = _cross_entropy(head, decoded, batch["decoder_places"], batch["decoder_labels"])
            masked = filled.sum() / targets.clamp(min=1)
            rebuilt = (again * batch["decoder_weights"]).sum() / targets.clamp(min=1)
            total = total + (masked + rebuilt) / 2 / len(sizes)
            parts |= {f"{size_name(size)}/mlm": masked.detach(), f"{size_name(size)}/mae": rebuilt.detach()}
        return Loss(total=total, targets=targets, parts=parts)


def _cross_entropy(head: PrefixHead, states: torch.Tensor, places: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Nats at some places of each row, `(batch, places)`, 0 where there is none; no other logits are computed."""
    there, places = places >= 0, places.clamp(min=0)
    logits = head(states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2])))
    wanted = torch.where(there, labels.gather(1, places), NO_TARGET)
    return CrossEntropy.apply(logits.flatten(0, 1).float(), wanted.flatten()).view(places.shape)
