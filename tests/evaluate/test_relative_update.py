"""Relative updates of the bottom and the top of a model, in an evaluator and through a resumed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import save_tiny_model, tiny_recipe, write_corpus
from faults.notes import Notes
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from warmstart import run
from warmstart.errors import ModelError, StateError
from warmstart.evaluate import Subject
from warmstart.evaluate.relative_update import RelativeUpdate, block_numbers
from warmstart.objectives.causal import Causal
from warmstart.recipe import Recipe
from warmstart.train.progress import Reporter


def subject_of(model: Any, start: dict[str, torch.Tensor]) -> Subject:
    return Subject(model, None, Causal(), None, 0, start=start)  # type: ignore[arg-type]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_layer=3, n_embd=16, n_head=2, n_positions=8))


def test_zero_at_the_start_and_exact_for_a_scaled_block(model: Any) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    values = RelativeUpdate().evaluate(subject_of(model, start))
    assert values == {"update/bottom": 0, "update/top": 0, "update/all": 0, "update/ratio": 1.0}
    with torch.no_grad():
        for block, factor in ((0, 1.3), (2, 1.1)):
            for weight in model.transformer.h[block].parameters():
                weight.mul_(factor)
    values = RelativeUpdate().evaluate(subject_of(model, start))
    assert values["update/bottom"] == pytest.approx(0.3, rel=1e-4)
    assert values["update/top"] == pytest.approx(0.1, rel=1e-4)
    assert values["update/ratio"] == pytest.approx(3, rel=1e-3)


def test_too_few_blocks(model: Any) -> None:
    with pytest.raises(ModelError, match="2 blocks at each end need 4, the model has 3"):
        RelativeUpdate(blocks=2).evaluate(subject_of(model, dict(model.state_dict())))


def test_every_weight_of_a_block_is_found(model: Any) -> None:
    found = block_numbers(list(model.state_dict()), model.config)
    assert set(found.values()) == {0, 1, 2}
    assert {name for name in model.state_dict() if ".h." in name} == set(found)


def test_a_resumed_run_compares_with_the_same_start(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "a.jsonl"), steps=6)
    raw["stages"][0]["evaluate"] = {"every": 2, "evaluators": ["held-out", "relative-update"]}
    recipe = Recipe.model_validate(raw)
    folder = run(recipe, tmp_path / "run", reporter=Reporter()).folder / "stages" / "00-first"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    updates = [line["update/all"] for line in lines if "update/all" in line]
    assert updates[0] == 0
    assert updates == sorted(updates)
    start = folder / "start.safetensors"
    kept = start.read_bytes()
    for damage in (lambda: start.unlink(), lambda: start.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))):
        (folder / "stage.json").unlink()
        damage()
        told: list[str] = []
        run(recipe, tmp_path / "run", reporter=Notes(told))
        assert any("start.safetensors is broken or gone; it is written again" in line for line in told)
        assert start.read_bytes() == kept
    assert AutoModelForCausalLM.from_pretrained(folder / "model")


def test_a_start_that_is_lost_with_its_model_is_told(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    raw = tiny_recipe(write_corpus(tmp_path / "a.jsonl"), steps=4)
    stage = raw["stages"][0]
    del stage["init"], stage["tokenizer"]
    stage |= {"from": str(model), "evaluate": {"evaluators": ["held-out", "relative-update"]}}
    recipe = Recipe.model_validate(raw)
    folder = run(recipe, tmp_path / "run", reporter=Reporter()).folder / "stages" / "00-first"
    other = AutoModelForCausalLM.from_pretrained(folder / "model")
    other.save_pretrained(model)  # other weights stand there now
    (folder / "stage.json").unlink()
    run(recipe, tmp_path / "run", reporter=Reporter())
    (folder / "stage.json").unlink()
    (folder / "start.safetensors").unlink()
    with pytest.raises(StateError, match=r"start\.safetensors is broken or gone.*not those of then.*--fresh"):
        run(recipe, tmp_path / "run", reporter=Reporter())
