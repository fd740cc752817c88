"""Keep the first layers of an encoder: a smaller model with the weights of the larger one, as they are.

What it computes are exactly the hidden states that the larger model has after so many layers (in models with a final
norm, after that norm). So a model that was trained to be good at several depths (Starbucks, 2D Matryoshka) is cut to
the size at which it is to serve; and where it was not, this is the usual start of a separate small model.

Source: "Starbucks: Improved Training for 2D Matryoshka Embeddings" (arXiv 2410.13230).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from transformers import PretrainedConfig, PreTrainedModel

from warmstart.errors import ModelError
from warmstart.models.layers import first_layers
from warmstart.surgery import Promise, Surgery


class TruncateEncoder(Surgery):
    """Leaves out all layers above the first few.

    Example:
        In one's own code, with any model of `transformers` whose layers are a list::

            small = TruncateEncoder(layers=1).apply(model)
            small.save_pretrained(folder)
    """

    type: Literal["truncate-encoder"] = "truncate-encoder"
    layers: Annotated[int, Field(ge=1)] = Field(description="How many layers stay, from the bottom.")

    def preserves(self, config: PretrainedConfig) -> tuple[Promise, str]:
        """The whole model's function is lost unless all layers stay; that of the layers that stay is kept exactly."""
        depth = config.num_hidden_layers
        if self.layers > depth:
            raise ModelError(f"truncate-encoder: layers {self.layers} of a model with {depth}; give 1 to {depth}")
        if self.layers == depth:
            return "exactly", "all layers stay"
        return "nothing", f"the first {self.layers} of {depth} layers compute what they did before"

    def apply(self, model: PreTrainedModel, *, seed: int = 0) -> PreTrainedModel:
        """The smaller model. Nothing is drawn.

        Raises:
            ModelError: the model has not so many layers, or no list of layers.
        """
        self.preserves(model.config)
        return first_layers(model, self.layers)
