"""Models with an image tower and a text tower: one way to ask CLIP, SigLIP and any pair of encoders for embeddings.

`transformers` has three kinds: `CLIPModel`, `SiglipModel` and `VisionTextDualEncoderModel`. They differ in where the
projected, not yet normalised embeddings are found; here they are alike. The whole model is called at once, so that
what wraps it (several processes) sees the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import VisionTextDualEncoderModel

from warmstart.errors import ModelError

IMAGE_TOWER = ("vision_model", "visual_projection")


@dataclass
class Embedded:
    """What a batch of pairs becomes: float `(batch, width)`, projected into the common space and not normalised."""

    image: torch.Tensor
    text: torch.Tensor


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """The vectors at length 1, float32; one of length 0 stays 0."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def embed(model: nn.Module, input_ids: torch.Tensor, pixel_values: torch.Tensor, attention_mask: Any) -> Embedded:
    """The embeddings of pairs.

    Args:
        input_ids, attention_mask: `(batch, length)`.
        pixel_values: `(batch, 3, height, width)`.
    """
    output = model(input_ids=input_ids, pixel_values=pixel_values, attention_mask=attention_mask)
    image, text = output.vision_model_output.pooler_output, output.text_model_output.pooler_output
    inner: Any = unwrapped(model)
    if isinstance(inner, VisionTextDualEncoderModel):  # its towers' outputs stay as they were before the projection
        image, text = inner.visual_projection(image), inner.text_projection(text)
    return Embedded(image, text)


def embed_images(model: nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """The embeddings of pictures alone: `(batch, width)`."""
    return _pooled(unwrapped(model).get_image_features(pixel_values=pixel_values))


def embed_texts(model: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The embeddings of texts alone: `(batch, width)`."""
    return _pooled(unwrapped(model).get_text_features(input_ids=input_ids, attention_mask=attention_mask))


def _pooled(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def unwrapped(model: nn.Module) -> Any:
    """The model itself where several processes have wrapped it."""
    return getattr(model, "module", model)


def check_two_towers(model: nn.Module, who: str) -> None:
    """Makes sure that a model can be asked for embeddings of pictures and of texts.

    Raises:
        ModelError: it cannot.
    """
    inner = unwrapped(model)
    if not (hasattr(inner, "get_image_features") and hasattr(inner, "get_text_features")):
        raise ModelError(
            f"{who} needs a model with an image tower and a text tower (clip, siglip, vision-text-dual-encoder), "
            f"found {type(inner).__name__}"
        )


def image_size(model: nn.Module) -> int:
    """The side of the square pictures that the image tower takes, in pixels.

    Raises:
        ModelError: its configuration does not say.
    """
    found = getattr(unwrapped(model).config.vision_config, "image_size", None)
    if isinstance(found, int):
        return found
    raise ModelError("the image tower's configuration has no image_size; set the objective's image_size")


def text_length(model: nn.Module) -> int:
    """The largest number of tokens that the text tower takes.

    Raises:
        ModelError: its configuration does not say.
    """
    found = getattr(unwrapped(model).config.get_text_config(), "max_position_embeddings", None)
    if isinstance(found, int):
        return found
    raise ModelError("the text tower's configuration has no max_position_embeddings; set the objective's length")


def width(model: nn.Module) -> int:
    """The dimensions of the common space."""
    config = unwrapped(model).config
    return int(config.projection_dim if hasattr(config, "projection_dim") else config.vision_config.hidden_size)


def image_tower(model: nn.Module) -> Iterator[nn.Module]:
    """The modules that only pictures go through."""
    return (getattr(unwrapped(model), name) for name in IMAGE_TOWER if hasattr(unwrapped(model), name))


@contextmanager
def frozen_image_tower(model: nn.Module) -> Iterator[None]:
    """The image tower as a constant: no gradient, no dropout, its running statistics stay; then as it was.

    A weight without a gradient is left alone by the optimizer, weight decay included.
    """
    modules = [module for tower in image_tower(model) for module in tower.modules()]
    modes = [(module, module.training) for module in modules]
    needed = [parameter for tower in image_tower(model) for parameter in tower.parameters() if parameter.requires_grad]
    for module in modules:
        module.training = False
    for parameter in needed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in needed:
            parameter.requires_grad_(True)
