"""The study of metadata headers: its two stages share no document and are one training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from warmstart.data.documents import all_documents
from warmstart.data.prepare import prepare
from warmstart.errors import RecipeError
from warmstart.models.tokenizer import tokenizer_for
from warmstart.recipe import Recipe
from warmstart.recipe_data import Data
from warmstart.recipe_file import read_study
from warmstart.recipe_stage import Stage
from warmstart.recipe_study import Study
from warmstart.run_recipe import run
from warmstart.train.checkpoint import load_state
from warmstart.train.progress import Reporter


def study(*overrides: str) -> Study:
    quick = ["shared.evaluate.evaluators=[{type: held-out, tokens: 64}]", "compare.flops=4.0e+8"]
    return read_study("meco", "smoke", [*quick, *overrides])


def data_of(stage: Stage) -> Data:
    assert stage.data is not None
    return stage.data


def texts(data: Data) -> set[str]:
    return {document.text for document in all_documents(data) if not document.held_out}


def test_the_arms_read_the_same_documents_and_no_stage_those_of_another() -> None:
    arms = study().arms
    bare, (headers, cooldown) = data_of(arms["bare"][0]), map(data_of, arms["meco"])
    assert texts(headers) | texts(cooldown) == texts(bare)
    assert not texts(headers) & texts(cooldown)
    assert len(texts(headers)) > len(texts(cooldown)) > 0
    held_out = [{d.text for d in all_documents(data) if d.held_out} for data in (bare, headers, cooldown)]
    assert held_out[0] == held_out[1] == held_out[2]
    contexts = {name: [d.context for d in all_documents(data_of(arms[name][0]))] for name in ("bare", "headers-only")}
    assert not any(contexts["bare"])
    assert all(context.startswith("Path: ") for context in contexts["headers-only"])
    assert 0 < sum(not d.context for d in all_documents(data_of(arms["mixed"][0]))) < len(contexts["bare"]) / 3


def at_cooldown(fraction: float) -> list[Stage]:
    """The arm `meco` with another share of bare documents: at 0 and 1 one of its stages is not there."""
    stages = study().model_dump(mode="json", by_alias=True, exclude_unset=True)["arms"]["meco"]
    headers, cooldown = stages
    headers["data"]["split"]["train"], cooldown["data"]["split"]["train"] = [0, 1 - fraction], [1 - fraction, 1]
    if fraction == 1.0:
        first = {name: value for name, value in headers.items() if name in ("init", "tokenizer")}
        return [Stage.model_validate({**cooldown, **first, "carry_on": False})]
    return [Stage.model_validate(stage) for stage in (stages[:1] if fraction == 0.0 else stages)]


def blocks(stage: Stage) -> list[dict[str, np.ndarray]]:
    assert stage.tokenizer is not None
    data = data_of(stage)
    train = prepare(data, tokenizer_for(stage.tokenizer, data, "causal")).train[0]
    return [train[number] for number in range(len(train))]


def test_a_cooldown_of_everything_is_the_baseline_and_one_of_nothing_has_no_bare_document() -> None:
    arms = study().arms
    baseline, only_cooldown = blocks(arms["bare"][0]), blocks(at_cooldown(1.0)[0])
    assert len(baseline) == len(only_cooldown) > 10
    for one, other in zip(baseline, only_cooldown, strict=True):
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one)
    no_cooldown = blocks(at_cooldown(0.0)[0])
    for block in no_cooldown:  # every document begins with its header
        assert block["context"][block["positions"] == 0].all()
    assert len(no_cooldown) == len(blocks(arms["headers-only"][0]))


def test_the_cooldown_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """At the switch weights, moments and learning rate are those of a run without a switch, and steps count on."""
    meco = study("shared.train.log_every=1", "shared.train.save_every=1", "shared.train.keep=100").recipe("meco", 0)
    budget = sum(stage.budget.amount for stage in meco.stages if stage.budget is not None)
    whole = meco.stages[0].model_dump(mode="json", by_alias=True, exclude_unset=True) | {"budget": {"flops": budget}}
    run(meco, tmp_path / "meco", reporter=Reporter())
    run(Recipe(seed=0, stages=[Stage.model_validate(whole)]), tmp_path / "whole", reporter=Reporter())
    switched = load_state(tmp_path / "meco/stages/00-headers/state")
    last, uncut = (
        load_state(tmp_path / name / "state") for name in ("meco/stages/01-cooldown", "whole/stages/00-headers")
    )
    assert switched is not None
    assert last is not None
    assert uncut is not None
    step = switched.values["counts"]["step"]
    middle = tmp_path / f"whole/stages/00-headers/state/step-{step:08d}"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (switched.path / name).read_bytes() == (middle / name).read_bytes()
    assert rates(tmp_path / "meco/stages/00-headers") + rates(tmp_path / "meco/stages/01-cooldown") == rates(
        tmp_path / "whole/stages/00-headers"
    )
    assert step + last.values["counts"]["step"] == uncut.values["counts"]["step"] > step
    moved = [not torch.equal(tensor, uncut.tensors["model"][name]) for name, tensor in last.tensors["model"].items()]
    assert any(moved), "bare documents and headers train alike: the test does not test"


def rates(folder: Path) -> list[float]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["learning_rate"] for line in lines if "learning_rate" in line]


@pytest.mark.parametrize("share", [1.5, -0.1])
def test_a_header_stage_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(RecipeError, match=r"arms\.meco\.0\.budget\.share"):
        study(f"arms.meco.0.budget.share={share}")
    with pytest.raises(RecipeError, match=r"arms\.meco\.0\.data\.split\.train"):
        study(f"arms.meco.0.data.split.train=[0, {share}]")
