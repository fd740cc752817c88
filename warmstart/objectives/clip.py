"""CLIP: of all captions of a batch, which one belongs to this picture, and the other way round.

The trade-off: no labels are needed but pairs, and the batch's other pairs are the wrong answers for nothing; so what is
learned depends on how large and how varied a batch is, and two pairs that mean the same are told apart all the same.

As in the official description the scale of the similarities is learned and kept below 100; here it is clamped before
each step's loss instead of after the step.

Source: A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 2.3
and figure 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from warmstart.models.two_towers import embed, unit, unwrapped
from warmstart.objectives import Batch, Loss
from warmstart.objectives.in_batch import gathered
from warmstart.objectives.pairs import ImageText, keep_in_bounds


def clip_loss(image: torch.Tensor, text: torch.Tensor, log_scale: torch.Tensor) -> Loss:
    """The mean of both cross entropies, nats per pair; `right` counts the pictures whose own caption is the nearest.

    Args:
        image, text: embeddings of the same pairs, `(pairs, width)`; they need not be normalised.
        log_scale: the logarithm of what cosines are multiplied by, a scalar.
    """
    logits = log_scale.exp() * unit(image) @ unit(text).T
    own = torch.arange(len(logits), device=logits.device)
    nats = (
        functional.cross_entropy(logits, own, reduction="none")
        + functional.cross_entropy(logits.T, own, reduction="none")
    ) / 2
    return Loss(
        total=nats.mean(),
        targets=torch.tensor(len(own)),
        parts={"scale": log_scale.detach().exp().view(())},
        per_row=nats.detach(),
        right=(logits.argmax(dim=1) == own).sum(),
    )


class Clip(ImageText):
    """Contrastive language-image pre-training: symmetric cross entropy over the pairs of a batch.

    Example:
        In one's own loop, with a `CLIPModel` of `transformers`, a tokenizer, and rows with `text` and `image` (the path
        of a file)::

            objective = Clip(augment="crop").for_model(model)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            generator = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, generator)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["clip"] = "clip"

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean symmetric cross entropy, nats per pair."""
        found = embed(model, batch["input_ids"], batch["pixel_values"], batch["attention_mask"])
        return clip_loss(gathered(found.image), gathered(found.text), keep_in_bounds(unwrapped(model).logit_scale))
