"""liger-kernel: what is handed to it and what is said where it cannot be used. Its kernels run on CUDA alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from corpora import tiny_recipe, write_corpus
from tiny_models import TOKENS, build

from warmstart.errors import ModelError, UserError
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.liger import use_liger
from warmstart.train.progress import Reporter

CUDA = torch.device("cuda", 0)  # only its name


def test_on_a_cpu_the_run_stops_before_anything_is_written(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(tiny_recipe(write_corpus(tmp_path / "c.jsonl"), liger=True))
    with pytest.raises(UserError, match=r"train\.liger: its kernels run on CUDA only, and this stage trains on 'cpu'"):
        run(recipe, tmp_path / "run", reporter=Reporter())
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_where_it_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    with pytest.raises(UserError, match=r"liger-kernel is missing; pip install 'warmstart\[gpu\]'"):
        use_liger(build("llama"), CUDA)


def test_it_gets_the_model_and_leaves_the_loss_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[dict[str, Any]] = []
    package, kernels, patch = (
        ModuleType(name)
        for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch")
    )
    kernels._apply_liger_kernel_to_instance = lambda **given: called.append(given)  # type: ignore[attr-defined]
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None, "qwen3": None}  # type: ignore[attr-defined]
    for module in (package, kernels, patch):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    model = build("llama")
    use_liger(model, CUDA)
    assert called == [{"model": model, "cross_entropy": False, "fused_linear_cross_entropy": False}]
    with pytest.raises(ModelError, match="no kernels for a gpt2 model; it has for: llama, qwen3"):
        use_liger(build("gpt2"), CUDA)


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None,
    reason="needs a CUDA device and liger-kernel",
)
def test_its_kernels_compute_what_the_model_does() -> None:
    found = []
    for liger in (False, True):
        model = build("llama").train().to("cuda")
        if liger:
            use_liger(model, torch.device("cuda", torch.cuda.current_device()))
        tokens = TOKENS.to("cuda")
        loss = torch.nn.functional.cross_entropy(model(input_ids=tokens).logits.flatten(0, 1), tokens.flatten())
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
