"""A step's memory with a large vocabulary, measured as the benchmark does it, at a size of milliseconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from warmstart.objectives import chunked_cross_entropy as module
from warmstart.train.activations import checkpoint_activations

VOCABULARY, WIDTH, LENGTH = 8192, 16, 256


def benchmark() -> Any:
    file = Path(__file__).parents[2] / "benchmarks" / "vocabulary.py"
    spec = importlib.util.spec_from_file_location("vocabulary_benchmark", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def measure() -> Any:
    return benchmark()


def peak(measure: Any, name: str, vocabulary: int = VOCABULARY, layers: int = 1, checkpointed: bool = False) -> int:
    """Bytes at the peak of a step, weights included."""
    model = measure.new_model("llama", vocabulary, WIDTH, layers, LENGTH)
    if checkpointed:
        checkpoint_activations(model)
    tokens = torch.arange(2 * LENGTH).view(2, LENGTH) % vocabulary
    run = measure.pass_of(name, model, tokens, "fp32")
    run()  # what is found out and made once
    model.zero_grad(set_to_none=True)
    return int(measure.peak_bytes(run)) + 4 * sum(p.numel() for p in model.parameters())


def test_at_most_a_third_of_plain_hugging_face(measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.CHUNK, "cpu", 2**18)
    plain, chunked = peak(measure, "plain"), peak(measure, "chunked")
    logits = 4 * 2 * LENGTH * VOCABULARY
    assert plain > 3 * logits  # the logits, their log-softmax, the gradient
    assert chunked < plain / 3
    assert chunked < logits


def test_the_measure_sees_what_is_allocated_and_released(measure: Any) -> None:
    def run() -> None:
        torch.empty(2**20)
        kept = torch.empty(2**18)
        kept.add(1)

    assert measure.peak_bytes(run) == pytest.approx(4 * 2**20, rel=0.01)


def test_activations_shrink(measure: Any) -> None:
    plain, checkpointed = (peak(measure, "chunked", 64, layers=8, checkpointed=flag) for flag in (False, True))
    assert checkpointed < plain / 3
