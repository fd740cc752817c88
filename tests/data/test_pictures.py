"""Pictures as batches: what is the same as in transformers, and what random changes do and leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_text import pairs

from warmstart.data.batch.pictures import (
    CHANGES,
    DEVIATION,
    GREY,
    MEAN,
    Changes,
    blurred,
    cut_out,
    pixel_batch,
    recoloured,
)
from warmstart.data.media import open_image
from warmstart.data.sources.shapes import COLOURS, PLACES, SHAPES, Shapes, draw_shape

SQUARES = torch.from_numpy(np.random.default_rng(0).random((6, 3, 8, 8))).float()


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_unchanged_pictures_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    references = [row["image"] for row in pairs(3)]
    processor = transformers.CLIPImageProcessor(do_resize=False, do_center_crop=False)
    theirs = processor(images=[open_image(one) for one in references], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixel_batch(references, 16), theirs, atol=1e-5, rtol=0)
    assert np.array(MEAN) == pytest.approx(processor.image_mean)
    assert np.array(DEVIATION) == pytest.approx(processor.image_std)


def test_no_change_changes_nothing() -> None:
    still = Changes()
    torch.testing.assert_close(recoloured(SQUARES, still, draws()), SQUARES, atol=1e-5, rtol=0)
    assert torch.equal(blurred(SQUARES, 0.0, draws()), SQUARES)
    whole = cut_out(SQUARES, 8, Changes(area=1.0), draws())  # all of it, at most a little narrower
    assert (whole - SQUARES).abs().mean() < 0.2


def test_a_mirror_image_is_one() -> None:
    ramp = torch.linspace(0, 1, 32).expand(4, 3, 32, 32)
    mirrored = cut_out(ramp, 32, Changes(area=0.9, flip=1.0), draws())
    assert (mirrored.diff(dim=3) <= 1e-6).all()
    straight = cut_out(ramp, 32, Changes(area=0.9, flip=0.0), draws())
    assert (straight.diff(dim=3) >= -1e-6).all()
    assert mirrored.diff(dim=2).abs().max() < 1e-5


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 1.0), st.integers(0, 99))
def test_a_cut_lies_inside_the_picture_and_has_its_area(area: float, seed: int) -> None:
    places = torch.linspace(-1, 1, 64)
    across, down = torch.meshgrid(places, places, indexing="xy")
    map_ = torch.stack([across, down, across]).expand(5, 3, 64, 64)
    cut = cut_out(map_, 16, Changes(area=area), draws(seed))
    size = [(cut[:, n].amax(dim=(1, 2)) - cut[:, n].amin(dim=(1, 2))) / 2 * 16 / 15 for n in (0, 1)]
    share = size[0] * size[1]
    assert cut.abs().max() <= 1
    assert (share <= 1.05).all()
    assert (share >= 0.74 * area - 0.03).all()  # where a shape would not fit, its longer side is cut


def test_grey_pictures_are_grey_and_as_light_as_before() -> None:
    grey = recoloured(SQUARES, Changes(grey=1.0), draws())
    torch.testing.assert_close(grey[:, 0], grey[:, 1], atol=1e-4, rtol=0)
    torch.testing.assert_close(grey[:, 0], torch.einsum("c,bchw->bhw", torch.from_numpy(GREY).float(), SQUARES),
                               atol=2e-3, rtol=0)  # fmt: skip


def test_jitter_changes_the_chosen_ones_alone() -> None:
    some = recoloured(SQUARES.repeat(50, 1, 1, 1), Changes(jitter=0.2), draws())
    moved = (some - SQUARES.repeat(50, 1, 1, 1)).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 0.1 < float(moved.float().mean()) < 0.3


def test_a_blur_spreads_a_point_and_loses_nothing() -> None:
    point = torch.zeros(40, 3, 64, 64)
    point[..., 32, 32] = 1
    spread = blurred(point, 0.5, draws())
    torch.testing.assert_close(spread.sum(dim=(2, 3)), torch.ones(40, 3), atol=1e-4, rtol=0)
    heights = spread[:, 0, 32, 32]
    assert 0.3 < float((heights < 0.999).float().mean()) <= 0.6
    assert torch.equal(spread[0, 0], spread[0, 1])


@pytest.mark.parametrize("augment", list(CHANGES))
def test_batches_follow_from_the_generator(augment: str) -> None:
    references = [row["image"] for row in pairs(4)]
    one, again, other = (pixel_batch(references, 16, augment, draws(seed)) for seed in (1, 1, 2))  # type: ignore[arg-type]
    assert one.shape == (4, 3, 16, 16)
    assert one.dtype == torch.float32
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (augment == "none")
    low, high = (torch.tensor([(end - m) / d for m, d in zip(MEAN, DEVIATION, strict=True)]) for end in (0, 1))
    assert (one.amin(dim=(0, 2, 3)) >= low - 1e-4).all()
    assert (one.amax(dim=(0, 2, 3)) <= high + 1e-4).all()


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_shapes_are_as_their_captions_say() -> None:
    rows = list(Shapes(size=60, pixels=32, seed=4).rows())
    assert rows == list(Shapes(size=60, pixels=32, seed=4).rows())
    assert len({row["id"] for row in rows}) == 60
    for row in rows:
        _, size, colour, shape, *place = row["text"].split(" ")
        assert (row["colour"], row["label"]) == (colour, shape)
        assert " ".join(place) in PLACES
        picture = open_image(row["image"]).astype(float)
        ink = np.abs(picture - 237).max(axis=2) > 40
        found = picture[ink].mean(axis=0)
        nearest = min(COLOURS, key=lambda name: np.abs(np.array(COLOURS[name]) - found).max())
        assert nearest == colour
        y, x = (places.mean() / 32 for places in np.nonzero(ink))
        right, down = PLACES[" ".join(place)]
        assert abs(x - 0.5 - right) < 0.1
        assert abs(y - 0.5 - down) < 0.12
        assert (np.ptp(np.nonzero(ink)[1]) > 13) == (size == "large")


def test_shapes_differ_by_their_settings() -> None:
    prints = {Shapes(size=s, pixels=p, seed=e).fingerprint() for s in (5, 6) for p in (8, 16) for e in (0, 1)}
    assert len(prints) == 8
    one, other = (next(Shapes(size=3, seed=seed).rows()) for seed in (1, 2))
    assert one["text"] != other["text"]
    few = {draw_shape(s, "red", "large", "in the middle", 16, draws()).tobytes() for s in SHAPES}
    assert len(few) == len(SHAPES)
