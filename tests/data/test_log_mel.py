"""Log-mel features are those of the definition, in float64 and step by step, and those of transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from transformers import SeamlessM4TFeatureExtractor

from warmstart.data.log_mel import log_mel, mel_filters, speech_features
from warmstart.errors import DataError


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def by_definition(samples: np.ndarray) -> np.ndarray:
    """The same features, with loops and a Fourier transform written out."""
    frames = []
    points = np.arange(512)
    wave = np.exp(-2j * np.pi * np.outer(np.arange(257), points) / 512)
    edges = [1127 * math.log(1 + 20 / 700) + n * (mel(8000) - mel(20)) / 81 for n in range(82)]
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400].astype(np.float64) * 32768
        frame = frame - frame.mean()
        raised = np.array([frame[n] - 0.97 * frame[max(n - 1, 0)] for n in range(400)])
        window = np.array([(0.5 - 0.5 * math.cos(2 * math.pi * n / 399)) ** 0.85 for n in range(400)])
        power = np.abs(wave @ np.concatenate([raised * window, np.zeros(112)])) ** 2
        bands = []
        for band in range(80):
            left, middle, right = edges[band : band + 3]
            total = 0.0
            for number in range(257):
                place = mel(number * 16000 / 512)
                total += power[number] * max(
                    0.0, min((place - left) / (middle - left), (right - place) / (right - middle))
                )
            bands.append(math.log(max(total, 2.0**-23)))
        frames.append(bands)
    return np.array(frames)


def mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def test_the_definition() -> None:
    samples = noise(1000)
    found = log_mel(samples)
    assert found.shape == (4, 80)
    np.testing.assert_allclose(found, by_definition(samples), atol=1e-7)
    np.testing.assert_allclose(log_mel(np.zeros(400, np.float32)), math.log(2.0**-23))


@pytest.mark.parametrize("stack", [2, 4])
def test_a_model_that_was_trained_here_takes_what_transformers_gives(stack: int) -> None:
    samples = noise(16_000 + 77)
    extractor = SeamlessM4TFeatureExtractor(stride=stack)
    theirs = extractor(samples, sampling_rate=16_000, pad_to_multiple_of=None)["input_features"][0]
    ours = speech_features(samples, stack)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (98 // stack, 80 * stack)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_tone_is_in_its_own_band() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(1600) / 16_000)
    middle = mel_filters()[32].argmax()  # the band whose triangle is widest at 1000 Hz: 32 x 31.25 Hz
    assert (np.abs(log_mel(tone).argmax(axis=1) - middle) <= 1).all()
    inside = mel_filters()[2:246].sum(axis=1)
    np.testing.assert_allclose(inside, 1.0)  # neighbouring triangles add up to one, but at the edges


@pytest.mark.parametrize(
    ("samples", "frames", "steps"), [(0, 0, 0), (399, 0, 0), (400, 1, 0), (880, 4, 1), (2000, 11, 2)]
)
def test_short_sounds(samples: int, frames: int, steps: int) -> None:
    assert log_mel(noise(samples)).shape == (frames, 80)
    found = speech_features(noise(samples), 4)
    assert found.shape == (steps, 320)
    assert np.isfinite(found).all()
    assert np.isfinite(speech_features(noise(samples), 1)).all()


def test_two_channels_are_refused() -> None:
    with pytest.raises(DataError, match=r"one channel; the sound has the shape \(2, 800\)"):
        log_mel(np.zeros((2, 800), np.float32))
