"""Training through sub-models: stage 1 of bert2BERT's two-stage pre-training (arXiv 2110.07143, section 3.4).

The sub-models of a model with L layers are its bottom l, 2l, ..., L layers, each with the shared head. Every step draws
one of them, runs only its layers, and trains only its top l layers and the head: a cheap step forward (few layers) and
a cheaper one backward (l layers), which lets every layer learn to be the last one.

What is shared with the input side is cut: the hidden state is detached below the trained layers, so that nothing
underneath gets a gradient or costs a backward pass. A tied embedding therefore moves by the head's gradient alone; an
embedding that is not tied stays as it is. The paper leaves this open; moving the tied matrix is what training "the
head" means for a tied model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from warmstart.errors import ModelError
from warmstart.models.axes import table_for
from warmstart.randomness import numpy_generator
from warmstart.train.trainable import Trainable


class SubModels(Trainable):
    """Each step trains the top layers of a randomly drawn bottom part of the model. Not with `train.compile`."""

    type: Literal["sub-models"] = "sub-models"
    layers: Annotated[
        int, Field(gt=0, description="l: how many layers a step trains, and by how many sub-models grow.")
    ] = 3

    def prepare(self, model: PreTrainedModel, seed: int = 0) -> None:
        depth = len(_layers(model))
        if self.layers > depth:
            raise ModelError(f"train.trainable.layers: {self.layers} is more than the model's {depth} layers")

    def depths(self, total: int) -> list[int]:
        """The depths of the sub-models of a model with `total` layers: l, 2l, ..., total."""
        return [*range(self.layers, total, self.layers), total]

    def choose(self, step: int, seed: int, model: nn.Module) -> str:
        depths = self.depths(len(_layers(model)))
        return str(depths[numpy_generator(seed, "sub-model", step).integers(len(depths))])

    @contextmanager
    def during(self, model: nn.Module, choice: str) -> Iterator[None]:
        depth, layers = int(choice), _layers(model)
        parent, name = _parent(model)
        below = [p for layer in layers[: max(0, depth - self.layers)] for p in layer.parameters() if p.requires_grad]
        cut = layers[0].register_forward_pre_hook(_detach)
        for weight in below:
            weight.requires_grad_(False)
        setattr(parent, name, nn.ModuleList(layers[:depth]))
        try:
            yield
        finally:
            setattr(parent, name, layers)
            for weight in below:
                weight.requires_grad_(True)
            cut.remove()


def _detach(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cuts the graph between the embeddings and the first layer."""
    return (inputs[0].detach(), *inputs[1:])


def _parent(model: Any) -> tuple[nn.Module, str]:
    """The module that holds the layer list, and its name there."""
    path, _, name = table_for(model.config).layers.rpartition(".")
    return model.get_submodule(path), name


def _layers(model: Any) -> nn.ModuleList:
    parent, name = _parent(model)
    layers = getattr(parent, name)
    assert isinstance(layers, nn.ModuleList)
    return layers
