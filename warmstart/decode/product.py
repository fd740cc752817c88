"""The plain product of models: p proportional to p_1 * p_2 * ... What emulated fine-tuning is without its division.

It counts twice whatever the models share, and so is too sure of itself; a baseline.

    >>> import torch
    >>> product([torch.tensor([0.5, 0.5]).log(), torch.tensor([0.2, 0.8]).log()]).exp()
    tensor([0.2000, 0.8000])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from warmstart.decode import Decoding
from warmstart.decode.composed import Composed, together
from warmstart.decode.log_probabilities import log_probabilities, normalised
from warmstart.named_models import OWN, ModelName


def product(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log-probabilities of the product, `(..., vocabulary)`, from logits or log-probabilities of each model.

    Raises:
        ValueError: no model.
        ModelError: at some place no token is possible under all models.
    """
    if not logits:
        raise ValueError("at least one model is needed")
    return normalised(torch.stack([log_probabilities(each) for each in logits]).sum(dim=0))


class Product(Decoding):
    """The product of the models' probabilities, without dividing by anything."""

    type: Literal["product"] = "product"
    models: Annotated[list[ModelName], Field(min_length=2)] = Field(
        description="The models; `stage` is the stage's own."
    )

    @model_validator(mode="after")
    def _own(self) -> Product:
        if OWN not in self.models:
            raise ValueError(f"none of the models is '{OWN}', the stage's own model")
        return self

    def compose(self, model: nn.Module, tokenizer: Any) -> Composed:
        return Composed(together(self.models, model, tokenizer), product)
