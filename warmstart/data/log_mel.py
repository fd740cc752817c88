"""Log-mel features of speech: what speech encoders read, as Kaldi and the `SeamlessM4TFeatureExtractor` of
`transformers` compute them.

25 ms of sound every 10 ms; the mean is taken off, high frequencies are raised (0.97), Povey's window, a Fourier
transform of 512 points, 80 triangles on the mel scale from 20 Hz to half the rate, the natural logarithm. Each band
then has mean 0 and variance 1 over the utterance, and `stack` frames that follow each other become one step. So a model
that was trained here takes what `SeamlessM4TFeatureExtractor(stride=stack)` gives, and `facebook/w2v-bert-2.0` what
this gives with `stack=2`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from warmstart.errors import DataError

RATE = 16_000
BANDS = 80
FRAME, HOP, POINTS = 400, 160, 512
"""Samples of a frame, between two frames, and of the Fourier transform."""
PRE_EMPHASIS = 0.97
FLOOR = 1.192092955078125e-07
LOWEST = 20.0
SMALLEST_VARIANCE = 1e-7


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log energies of the mel bands: float64 `(frames, 80)`; none where the sound is shorter than a frame.

    Args:
        samples: between -1 and 1, 16,000 a second, `(samples,)`.

    Raises:
        DataError: the samples are not a single channel.
    """
    if samples.ndim != 1:
        raise DataError(f"log-mel features are of one channel; the sound has the shape {samples.shape}")
    if len(samples) < FRAME:
        return np.empty((0, BANDS))
    loud = samples.astype(np.float64) * 2**15  # Kaldi counts in 16-bit integers
    frames = np.lib.stride_tricks.sliding_window_view(loud, FRAME)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.fft.rfft((frames - PRE_EMPHASIS * before) * _window(), POINTS)
    energies = (spectrum.real**2 + spectrum.imag**2) @ mel_filters()
    return np.log(np.maximum(energies, FLOOR))


def speech_features(samples: np.ndarray, stack: int) -> np.ndarray:
    """What an encoder reads: float32 `(steps, 80 * stack)`, a step for every `stack` frames; what is left at the end is
    dropped, and a sound that is too short has no steps.

    Args:
        samples: as for `log_mel`.
        stack: frames of 10 ms that make a step.
    """
    frames = log_mel(samples)
    if len(frames) > 1:
        variance = frames.var(axis=0, ddof=1, keepdims=True)
        frames = (frames - frames.mean(axis=0, keepdims=True)) / np.sqrt(variance + SMALLEST_VARIANCE)
    else:
        frames = np.zeros_like(frames)
    steps = len(frames) // stack
    return frames[: steps * stack].reshape(steps, BANDS * stack).astype(np.float32)


@cache
def mel_filters() -> np.ndarray:
    """How much of each of 257 frequencies goes into each band: `(257, 80)`."""
    edges = np.linspace(_mel(np.array(LOWEST)), _mel(np.array(RATE / 2)), BANDS + 2)
    places = _mel(np.arange(POINTS // 2 + 1) * RATE / POINTS)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (places - left) / (middle - left), (right - places) / (right - middle)
    return np.maximum(0.0, np.minimum(rising, falling))


@cache
def _window() -> np.ndarray:
    return np.hanning(FRAME) ** 0.85


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(hertz / 700.0)
