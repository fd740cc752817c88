"""Coloured shapes with captions: pictures and texts that are made, not read.

A picture has one shape on a light ground: a circle, square, triangle, ... of one colour, small or large, somewhere. Its
caption says so ("a small red circle at the top left"), its `label` is the shape. Small models learn the pairing in
seconds, and what is to be found is known: enough to try out anything that pairs pictures with texts, without a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.media import IN_CACHE
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.randomness import numpy_generator

VERSION = 1  # raised whenever the same settings would give other rows
COLOURS = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 80, 210),
    "yellow": (235, 205, 40),
    "purple": (140, 50, 170),
    "orange": (240, 140, 30),
    "black": (25, 25, 25),
    "pink": (245, 140, 190),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
SIZES = {"small": 0.18, "large": 0.3}
PLACES = {
    "in the middle": (0.0, 0.0),
    "at the top left": (-0.18, -0.18),
    "at the top right": (0.18, -0.18),
    "at the bottom left": (-0.18, 0.18),
    "at the bottom right": (0.18, 0.18),
}


def draw_shape(
    shape: str, colour: str, size: str, place: str, pixels: int, generator: np.random.Generator
) -> np.ndarray:
    """A picture: uint8 `(pixels, pixels, 3)`; where exactly the shape is, its shade and the ground are drawn."""
    across, down = np.array(PLACES[place]) + generator.uniform(-0.04, 0.04, 2) + 0.5
    half = SIZES[size] * generator.uniform(0.9, 1.1)
    y, x = (np.mgrid[:pixels, :pixels] + 0.5) / pixels
    x, y = (x - across) / half, (y - down) / half
    far, square = np.hypot(x, y), np.maximum(abs(x), abs(y))
    inside = {
        "circle": far < 1,
        "square": square < 0.9,
        "triangle": (y < 0.8) & (y > 2 * abs(x) - 1),
        "diamond": abs(x) + abs(y) < 1.1,
        "cross": (square < 1) & (np.minimum(abs(x), abs(y)) < 0.3),
        "ring": (far < 1) & (far > 0.55),
    }[shape]
    ground = 225 + generator.integers(0, 25, 3)
    ink = np.array(COLOURS[colour]) + generator.integers(-15, 16, 3)
    return np.where(inside[..., None], ink, ground).clip(0, 255).astype(np.uint8)


class Shapes(Source):
    """Pictures of coloured shapes: `text` is the caption, `image` the picture, `label` the shape, and `colour`."""

    type: Literal["shapes"] = "shapes"
    size: Annotated[int, Field(gt=0)] = Field(2000, description="How many rows.")
    pixels: Annotated[int, Field(ge=8, le=512)] = Field(32, description="Side of a picture.")
    seed: int = 0

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        folder = cache_folder() / "made" / f"shapes-{self.fingerprint()}"
        entry(folder, self._write)
        media = f"{IN_CACHE}{(folder / 'media.bin').relative_to(cache_folder()).as_posix()}"
        for number, (described, _) in enumerate(self._drawn(pictures=False)):
            yield {
                "text": "a {size} {colour} {shape} {place}".format(**described),
                "source": self.label or self.type,
                "id": f"shapes-{self.seed}:{number}",
                "image": f"{media}#{number * self._bytes}+{self._bytes}",
                "label": described["shape"],
                "colour": described["colour"],
            }

    def fingerprint(self) -> str:
        return digest("shapes", VERSION, self.size, self.pixels, self.seed)

    @property
    def _header(self) -> bytes:
        """A portable pixmap: every reader of pictures opens it, and writing it takes no encoder."""
        return b"P6 %d %d 255\n" % (self.pixels, self.pixels)

    @property
    def _bytes(self) -> int:
        return len(self._header) + 3 * self.pixels**2

    def _drawn(self, pictures: bool) -> Iterator[tuple[dict[str, str], np.ndarray | None]]:
        choices = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES), "place": tuple(PLACES)}
        for number in range(self.size):
            generator = numpy_generator(self.seed, "shapes", number)
            described = {name: values[int(generator.integers(len(values)))] for name, values in choices.items()}
            yield described, draw_shape(**described, pixels=self.pixels, generator=generator) if pictures else None

    def _write(self, draft: Path) -> dict[str, Any]:
        with (draft / "media.bin").open("wb") as file:
            for _, picture in self._drawn(pictures=True):
                assert picture is not None
                file.write(self._header + picture.tobytes())
        return {"rows": self.size}
