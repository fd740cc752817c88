"""Pictures to a batch of pixels: opened at one size, changed at random, and normalised as CLIP has it.

Random changes are drawn for each picture and computed for all of a batch at once: where it is cut out and whether it is
mirrored is one affine map, and brightness, contrast, saturation, hue and greyness are one linear map of the three
colours. So they cost little more than loading. What is simpler than in torchvision: colours are cut off at black and
white once at the end, and the changes of colour come in a fixed order.

So that many pictures fit into memory, they are kept at twice the size that the model takes, cut to a square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from warmstart.data.media import open_image

Augment = Literal["none", "crop", "strong"]
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures: what `CLIPImageProcessor` of transformers takes off and divides by."""
GREY = np.array([0.299, 0.587, 0.114])
YIQ = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True)
class Changes:
    """How far pictures are changed at random; chances are of each picture by itself.

    Attributes:
        area: the smallest share of the picture that is cut out; the cut keeps its shape within 3/4 to 4/3.
        flip, jitter, grey, blur: chances of a mirror image, of other colours, of none, and of a blur.
        colours: how far brightness, contrast and saturation may go (factors 1 - x to 1 + x), and the hue (turns).
    """

    area: float = 1.0
    flip: float = 0.0
    jitter: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    colours: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)


CHANGES: dict[str, Changes] = {
    "none": Changes(),
    "crop": Changes(area=0.9),
    "strong": Changes(area=0.5, flip=0.5, jitter=0.2, grey=0.2, blur=0.2),
}
"""`crop` is what CLIP trains with, `strong` what ProtoCLIP does (arXiv 2206.10996, its official code)."""


def pixel_batch(
    references: Sequence[str], size: int, augment: Augment = "none", generator: np.random.Generator | None = None
) -> torch.Tensor:
    """Pictures as a model takes them: float32 `(batch, 3, size, size)`, normalised.

    Args:
        references: what rows have as `image` (`warmstart/data/media.py`).
        generator: what random changes are drawn from; needs one unless `augment` is `none`.

    Raises:
        DataError: a picture cannot be opened.
    """
    changes = CHANGES[augment]
    opened = size if augment == "none" else 2 * size
    pictures = torch.from_numpy(np.stack([open_image(reference, opened) for reference in references]))
    pixels = pictures.permute(0, 3, 1, 2).float() / 255
    if augment != "none":
        assert generator is not None, "random changes need a generator"
        pixels = recoloured(cut_out(pixels, size, changes, generator), changes, generator)
        pixels = blurred(pixels, changes.blur, generator).clamp_(0, 1)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


def cut_out(pixels: torch.Tensor, size: int, changes: Changes, generator: np.random.Generator) -> torch.Tensor:
    """A random rectangle of each picture, perhaps mirrored, at `size` x `size`.

    Args:
        pixels: float `(batch, 3, height, width)`; square ones.
    """
    count = len(pixels)
    area = generator.uniform(changes.area, 1.0, count)
    shape = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), count))
    wide = np.minimum(np.sqrt(area * shape), 1.0)
    high = np.minimum(np.sqrt(area / shape), 1.0)
    # An affine map of -1..1: half the size is the scale, and the middle stays inside what the size leaves free.
    right = generator.uniform(-1, 1, count) * (1 - wide)
    down = generator.uniform(-1, 1, count) * (1 - high)
    mirror = np.where(generator.random(count) < changes.flip, -1.0, 1.0)
    zero = np.zeros(count)
    maps = np.stack([np.stack([wide * mirror, zero, right], 1), np.stack([zero, high, down], 1)], 1)
    grid = functional.affine_grid(torch.from_numpy(maps).float(), [count, 3, size, size], align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def recoloured(pixels: torch.Tensor, changes: Changes, generator: np.random.Generator) -> torch.Tensor:
    """Other colours for some pictures; values may leave 0..1. `pixels` is float `(batch, 3, height, width)`."""
    count = len(pixels)
    light, contrast, colour, hue = changes.colours
    chosen = generator.random(count) < changes.jitter
    factors = np.where(chosen[:, None], generator.uniform(-1, 1, (count, 4)), 0.0) * [light, contrast, colour, hue]
    grey = generator.random(count) < changes.grey
    saturation = np.where(grey, 0.0, 1 + factors[:, 2])[:, None, None]
    angle = 2 * np.pi * factors[:, 3]
    zero, one, cos, sin = np.zeros(count), np.ones(count), np.cos(angle), np.sin(angle)
    turn = np.stack([
        np.stack([one, zero, zero], 1), np.stack([zero, cos, -sin], 1), np.stack([zero, sin, cos], 1)
    ], 1)  # fmt: skip
    faded = saturation * np.eye(3) + (1 - saturation) * np.tile(GREY, (3, 1))
    colours = torch.from_numpy(faded @ np.linalg.inv(YIQ) @ turn @ YIQ).float()
    lit = pixels * torch.from_numpy(1 + factors[:, 0]).float().view(-1, 1, 1, 1)
    middle = (lit * torch.from_numpy(GREY).float().view(3, 1, 1)).sum(dim=1).mean(dim=(1, 2)).view(-1, 1, 1, 1)
    contrasted = middle + (lit - middle) * torch.from_numpy(1 + factors[:, 1]).float().view(-1, 1, 1, 1)
    return torch.einsum("bij,bjhw->bihw", colours, contrasted)


def blurred(pixels: torch.Tensor, chance: float, generator: np.random.Generator) -> torch.Tensor:
    """Some pictures out of focus: a Gaussian of 0.1 to 2 pixels at a side of 224, as wide in proportion elsewhere."""
    count, size = len(pixels), pixels.shape[-1]
    chosen = generator.random(count) < chance
    sigmas = generator.uniform(0.1, 2.0, count) * max(size / 224, 0.5)
    if not chosen.any():
        return pixels
    radius = max(1, round(10 * size / 224))
    places = np.arange(-radius, radius + 1)
    bells = np.exp(-0.5 * (places / np.where(chosen, sigmas, 1e-3)[:, None]) ** 2)
    weights = torch.from_numpy(bells / bells.sum(axis=1, keepdims=True)).float().repeat_interleave(3, dim=0)
    planes = functional.pad(pixels, (radius,) * 4, mode="replicate").reshape(1, 3 * count, *[size + 2 * radius] * 2)
    planes = functional.conv2d(planes, weights.view(3 * count, 1, 1, -1), groups=3 * count)
    planes = functional.conv2d(planes, weights.view(3 * count, 1, -1, 1), groups=3 * count)
    return planes.view(pixels.shape)
