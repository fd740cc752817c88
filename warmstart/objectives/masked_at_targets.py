"""Masked language modelling that computes its output head at the targets alone.

The loss is that of `masked`, number for number. But a head as wide as the vocabulary, computed at every token as
`transformers` does it, is a third or more of the work of a small model, and 85 % of it is thrown away. BERT's own code
never did that. The price: the logits of other places do not exist, so that nothing may ask for them (distillation), and
rows keep the length of their block. The number of places is rounded up, so that few shapes occur.

Sources: J. Devlin et al., "BERT", 2018, and google-research/bert (`max_predictions_per_seq`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from warmstart.errors import ModelError
from warmstart.objectives import Batch, Loss, Row
from warmstart.objectives.bidirectional import places_of
from warmstart.objectives.blocks import NO_TARGET, token_loss
from warmstart.objectives.masked import Masked
from warmstart.objectives.output_layer import token_loss_of

ROUNDED_TO = 8


class MaskedAtTargets(Masked):
    """Masked language modelling with the settings of `masked` and a cheaper step.

    Example:
        In one's own loop, with a model and a tokenizer of `transformers` and rows of packed text::

            objective = MaskedAtTargets()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            generator = np.random.default_rng(0)
            for step in range(3):
                batch = objective.collate(rows, tokenizer, generator)
                loss = objective.loss(model, batch)
                loss.total.backward()
                optimizer.step()
                optimizer.zero_grad()
    """

    type: Literal["masked-at-targets"] = "masked-at-targets"  # type: ignore[assignment]
    layouts: ClassVar[tuple[str, ...]] = ("padded",)

    def collate(self, rows: Sequence[Row], tokenizer: Any, generator: np.random.Generator) -> Batch:
        """As of `masked`, and `places`: int64 `(batch, places)`, where in its row each target stands; -1 fills up."""
        batch = super().collate(rows, tokenizer, generator)
        return batch | {"places": torch.from_numpy(target_places(batch["labels"].numpy()))}

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """Mean cross entropy of the hidden tokens, nats."""
        places, labels = _targets(batch)
        with states_at(model, places):
            logits = model(input_ids=batch["input_ids"], **places_of(model, batch)).logits
        loss = token_loss(logits, labels)
        loss.right = (logits.detach().argmax(dim=-1) == labels).sum()
        loss.logits = None  # they do not stand beside the batch's labels
        return loss

    def loss_without_logits(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        places, labels = _targets(batch)
        with states_at(model, places):
            return token_loss_of(model, labels, input_ids=batch["input_ids"], **places_of(model, batch))


def _targets(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the targets stand and what they are, int64 `(batch, places)`; 0 and -100 fill up."""
    places = batch["places"].clamp(min=0)
    return places, torch.where(batch["places"] >= 0, batch["labels"].gather(1, places), NO_TARGET)


def target_places(labels: np.ndarray) -> np.ndarray:
    """Where in each row the labels are that are not -100, ascending, filled up with -1: int64 `(rows, places)`."""
    targets = labels != NO_TARGET
    most = max(1, int(targets.sum(axis=1).max(initial=0)))
    width = min(labels.shape[1], -(-most // ROUNDED_TO) * ROUNDED_TO)
    first = np.argsort(~targets, axis=1, kind="stable")[:, :width]
    return np.where(np.arange(width) < targets.sum(axis=1)[:, None], first, -1)


@contextmanager
def states_at(model: nn.Module, places: torch.Tensor) -> Iterator[None]:
    """Inside, a model's logits are those of some places of each row, `(batch, places, vocabulary)`: its trunk reads
    everything, and its head is handed the hidden states of these places alone.

    Args:
        model: a model of `transformers` whose head looks at each place by itself.
        places: int64 `(batch, places)`.

    Raises:
        ModelError: the head of this model is not built upon such a trunk.
    """
    inner: Any = getattr(model, "module", model)
    trunk = getattr(inner, "base_model", inner)
    if trunk is inner:
        raise ModelError(f"{type(inner).__name__} has no trunk apart from its head; use the objective masked")

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        states = output.last_hidden_state
        output.last_hidden_state = states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))
        return output

    hook = trunk.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()
