"""Several processes train the same model as one: same batches, same masks, same gradients but for rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from corpora import tiny_recipe, write_corpus
from image_text import pairs_recipe
from pairs import pair_rows
from safetensors.torch import load_file

PROTOCLIP = {"type": "protoclip", "prototypes": 3, "episode": 8, "hidden": 8, "outputs": 4, "closing": 0}


def run_with(processes: int, recipe: Path, out: Path) -> None:
    launch = [sys.executable, "-m"]
    if processes > 1:  # `accelerate launch --cpu` starts one process, however many are asked for
        launch += ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    command = [*launch, "warmstart.cli", "run", str(recipe), "--out", str(out)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=one_thread)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads((out / "stages/00-first/stage.json").read_text())
    assert facts["processes"] == processes


def of_rounding(name: str) -> float:
    """How much a weight may differ. Attention does not feel the bias of its keys, whose gradient is nothing but
    rounding; Adam makes steps of ordinary size of it."""
    return 3e-3 if name.endswith(("key.bias", "k_proj.bias")) else 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "bucketed", "unpadded"])
def test_two_processes_equal_one(tmp_path: Path, layout: str) -> None:
    raw: dict[str, Any] = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), objective="masked", steps=8)
    raw["stages"][0]["init"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    raw["stages"][0]["train"] |= {"accumulate": 2, "layout": layout}
    if layout != "padded":
        raw["stages"][0]["data"] |= {"packing": "single", "length": 32}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    for processes in (1, 2):
        run_with(processes, recipe, tmp_path / str(processes))
    one, two = (load_file(tmp_path / str(n) / "stages/00-first/model/model.safetensors") for n in (1, 2))
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["replaced-token-detection", "clustered-token-detection"])
def test_an_objectives_own_modules_are_trained_by_all_processes(tmp_path: Path, objective: str) -> None:
    """The generator's gradients and the table's counts are those of the whole step: else the third step differs."""
    raw: dict[str, Any] = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), objective="masked", steps=8, save_every=8)
    raw["stages"][0]["init"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    raw["stages"][0]["objective"] = {"type": objective} | ({"clusters": 8} if "clustered" in objective else {})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    for processes in (1, 2):
        run_with(processes, recipe, tmp_path / str(processes))
    for file in ("model/model.safetensors", "state/step-00000008/extra.safetensors"):
        one, two = (load_file(tmp_path / str(n) / "stages/00-first" / file) for n in (1, 2))
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_texts_of_all_processes_are_compared(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pair_rows(60)))
    raw: dict[str, Any] = tiny_recipe(tmp_path / "pairs.jsonl", objective="masked", steps=4)
    stage = raw["stages"][0]
    stage["init"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    stage["init"]["initializer_range"] = 0.5  # else all texts are alike, and gradients nothing but rounding
    stage["data"]["source"]["columns"] = ["positive"]
    stage["data"]["packing"] = "rows"
    stage["objective"] = {"type": "starbucks-srl", "length": 16}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    for processes in (1, 2):
        run_with(processes, recipe, tmp_path / str(processes))
    one, two = (load_file(tmp_path / str(n) / "stages/00-first/model/model.safetensors") for n in (1, 2))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=of_rounding(name))


@pytest.mark.slow
@pytest.mark.parametrize("objective", [{"type": "clip"}, {"type": "siglip"}, PROTOCLIP])
def test_the_pairs_of_all_processes_are_compared(tmp_path: Path, objective: dict[str, Any]) -> None:
    """In-batch negatives come from all processes: else the loss and every gradient would differ. ProtoCLIP's heads
    normalise by the statistics of their own process, so that its weights are only about the same."""
    raw = pairs_recipe(steps=4, log_every=1)
    raw["stages"][0]["objective"] = objective
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    for processes in (1, 2):
        run_with(processes, recipe, tmp_path / str(processes))
    one, two = (load_file(tmp_path / str(n) / "stages/00-first/model/model.safetensors") for n in (1, 2))
    for name in one:
        tolerance = 0.02 if objective is PROTOCLIP else of_rounding(name)
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=tolerance)
