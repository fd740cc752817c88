"""SigLIP: for every picture and every caption of a batch, whether they belong together.

Each of the B x B questions is answered by itself, with a sigmoid, so that no sum over the whole batch is needed; nearly
all answers are no, which a learned bias says before anything is learned.

A `SiglipModel` has the bias. Other models get one beside them, which is saved with the run but not exported: it changes
no ranking. `transformers` gives a new `SiglipModel` a scale of 1 and a bias of 0; these become the paper's, 10 and -10.

Source: X. Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (arXiv 2303.15343), section 3.2 and algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from warmstart.errors import ModelError
from warmstart.models.two_towers import embed, unit, unwrapped
from warmstart.objectives import Batch, Loss, Row
from warmstart.objectives.in_batch import gathered
from warmstart.objectives.pairs import ImageText, keep_in_bounds

SCALE, BIAS = 10.0, -10.0


def siglip_loss(image: torch.Tensor, text: torch.Tensor, log_scale: torch.Tensor, bias: torch.Tensor) -> Loss:
    """Negative log-likelihood of all answers, nats per pair (not per answer, as in the paper).

    Args:
        image, text: embeddings of the same pairs, `(pairs, width)`; they need not be normalised.
        log_scale, bias: scalars; a cosine c becomes the log-odds exp(log_scale) * c + bias.
    """
    logits = log_scale.exp() * unit(image) @ unit(text).T + bias
    together = 2 * torch.eye(len(logits), device=logits.device) - 1
    nats = -functional.logsigmoid(together * logits).sum(dim=1)
    own = torch.arange(len(logits), device=logits.device)
    return Loss(
        total=nats.mean(),
        targets=torch.tensor(len(own)),
        parts={"scale": log_scale.detach().exp().view(()), "bias": bias.detach().view(())},
        per_row=nats.detach(),
        right=(logits.argmax(dim=1) == own).sum(),
    )


class Bias(nn.Module):
    """The bias of a model that has none of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(BIAS))


class Siglip(ImageText):
    """Sigmoid loss over all pictures and captions of a batch.

    Example:
        In one's own loop, with a `SiglipModel` or a `CLIPModel` of `transformers`, a tokenizer, and rows with `text`
        and `image` (the path of a file)::

            objective = Siglip().for_model(model)
            bias = objective.start(model)
            weights = [*model.parameters(), *(bias.parameters() if bias is not None else ())]
            optimizer = torch.optim.AdamW(weights, lr=1e-3)
            generator = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, generator)
                loss = objective.loss(model, batch, bias)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["siglip"] = "siglip"

    @torch.no_grad()
    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> Bias | None:
        """The bias, where the model has none; gives a new model the paper's scale and bias."""
        super().start(model, tokenizer, rows)
        inner = unwrapped(model)
        if not hasattr(inner, "logit_bias"):
            return Bias().to(inner.logit_scale.device)
        if not inner.logit_scale.any() and not inner.logit_bias.any():
            inner.logit_scale.fill_(math.log(SCALE))
            inner.logit_bias.fill_(BIAS)
        return None

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean negative log-likelihood of a pair's answers, nats.

        Raises:
            ModelError: the model has no bias, and `extra` is not what `start` made.
        """
        inner = unwrapped(model)
        if isinstance(extra, Bias):
            bias: torch.Tensor = extra.bias
        elif hasattr(inner, "logit_bias"):
            bias = inner.logit_bias
        else:
            raise ModelError(f"objective {self.name}: its loss needs the bias that start(model) returned")
        found = embed(model, batch["input_ids"], batch["pixel_values"], batch["attention_mask"])
        return siglip_loss(gathered(found.image), gathered(found.text), keep_in_bounds(inner.logit_scale), bias)
