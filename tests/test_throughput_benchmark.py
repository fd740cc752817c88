"""The benchmark of speed: its shapes and what it divides by. (Its loops run in `make bench`.)"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from warmstart.train.compute import FlopMeter


@pytest.fixture(scope="module")
def throughput() -> Any:
    file = Path(__file__).parents[1] / "benchmarks" / "throughput.py"
    spec = importlib.util.spec_from_file_location("throughput_benchmark", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def parameters(throughput: Any, shape: str) -> int:
    args = throughput.arguments(["--shape", shape])
    with torch.device("meta"):
        settings = throughput.stage(args).init.settings
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(args.like, **settings))
    return sum(weight.numel() for weight in model.parameters())


def test_shapes_are_what_they_are_called(throughput: Any) -> None:
    assert parameters(throughput, "gpt2-124m") == 124_439_808  # as published
    assert parameters(throughput, "llama-1b") == 1_235_814_400  # Llama 3.2 1B, as published


def test_options_go_on_top_of_a_shape(throughput: Any) -> None:
    args = throughput.arguments(["--shape", "llama-1b", "--batch", "2", "--bare-compiled", "--without", "compiled"])
    assert (args.batch, args.length, args.precision, args.device) == (2, 2048, "bf16", "cuda")
    assert args.contestants == ["bare", "warmstart", "hf-trainer", "bare-compiled"]
    assert throughput.arguments(["--only", "bare", "compiled"]).contestants == ["bare", "compiled"]
    assert throughput.arguments([]).contestants == ["bare", "warmstart", "compiled", "hf-trainer"]


def test_flops_of_a_step_are_those_of_the_real_model(throughput: Any) -> None:
    args = throughput.arguments(["--shape", "tiny"])
    settings = throughput.stage(args).init.settings
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=args.vocabulary, **settings))
    tokens = torch.zeros(args.batch, args.length, dtype=torch.long)
    measured = FlopMeter().measure((), lambda: model(input_ids=tokens, use_cache=False).logits.sum())
    assert throughput.flops_of_step(args) == measured


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Other", None),
    ],
)
def test_peaks_by_name(throughput: Any, monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert throughput.peak_of(throughput.arguments(["--shape", "gpt2-124m"])) == (name, peak)
    assert throughput.peak_of(throughput.arguments(["--shape", "gpt2-124m", "--peak", "5e12"])) == (name, 5e12)
    assert throughput.peak_of(throughput.arguments(["--shape", "tiny"])) == ("cpu", None)
