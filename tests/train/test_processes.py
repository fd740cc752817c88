"""Several processes train the same model as one: same batches, same masks, same gradients but for rounding; with copies
of the weights on each, or with shares of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from corpora import save_tiny_model, tiny_recipe, write_corpus
from every_part import ALL, MODEL, make, small_run
from rich.console import Console
from run_many import choose_without_noise, write_down_rows
from safetensors.torch import load_file

from warmstart.errors import UserError
from warmstart.recipe import Recipe
from warmstart.recipe_file import read_recipe
from warmstart.run_recipe import run
from warmstart.train.loop import Training
from warmstart.train.sharing import check_shares

HERE = Path(__file__).parent
NO_DROPOUT = {  # it is drawn on each process
    "gpt2": {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
    "bert": {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0},
    "wav2vec2-bert": {
        "hidden_dropout": 0,
        "attention_dropout": 0,
        "activation_dropout": 0,
        "feat_proj_dropout": 0,
        "layerdrop": 0,
    },
}
LLAMA = {
    "like": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}
WITH_STATE = ("objectives", "trainable", "penalties", "gradients", "mix")


def launch(processes: int, folder: Path, out: Path, *more: str) -> None:
    """Carries out all recipes of a folder in so many processes (`accelerate launch --cpu` would start one)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [str(HERE.parent / "run_many.py"), str(folder), str(out), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def alone(folder: Path, out: Path) -> None:
    """The same in this process."""
    for file in sorted(folder.glob("*.yaml")):
        run(read_recipe(file), out / file.stem, console=Console(file=io.StringIO()))


@pytest.fixture(autouse=True)
def _without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", choose_without_noise)


def write(folder: Path, name: str, raw: dict[str, Any], *, shard: str = "auto") -> None:
    for stage in raw["stages"]:
        stage["train"]["shard"] = shard
        if "init" in stage:
            stage["init"] = stage["init"] | NO_DROPOUT.get(stage["init"]["like"], {})
            if stage["init"]["like"] == "bert":  # else all texts are alike to it, and gradients mere rounding
                stage["init"]["initializer_range"] = 0.5
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(raw))


def weights(out: Path, name: str, stage: str = "*") -> dict[str, Any]:
    """All weights of a run's models and of its objective's own modules."""
    files = [*out.glob(f"{name}/stages/{stage}/model/*.safetensors")]
    files += out.glob(f"{name}/stages/{stage}/state/step-*/extra.safetensors")
    assert files
    return {f"{file.relative_to(out)}:{key}": tensor for file in files for key, tensor in load_file(file).items()}


def losses(out: Path, name: str) -> list[float]:
    lines = (out / name / "stages/00-first/metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


def allowed(name: str) -> float:
    """How much a weight may differ. Attention does not feel the bias of its keys, whose gradient is nothing but
    rounding; Adam makes steps of ordinary size of it. ProtoCLIP's heads normalise by the statistics of their own
    process, so that its weights are only about the same; replay joins old rows to each process's own new ones, which
    counts them by how many targets these have."""
    if "protoclip" in name:
        return 0.02
    if "penalties-replay" in name:
        return 1e-3
    return 1e-2 if name.endswith(("key.bias", "k_proj.bias", "linear_k.bias", "c_attn.bias")) else 2e-5


def assert_same(one: Path, many: Path, name: str) -> None:
    first, second = weights(one, name), weights(many, name)
    assert set(first) == set(second)
    worst = {key: float((first[key] - second[key]).abs().max()) for key in first if first[key].numel()}
    off = {key: value for key, value in worst.items() if not value <= allowed(key)}
    assert not off, off


def facts(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / name / "stages/00-first/stage.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module", autouse=True)
def _a_model() -> None:
    save_tiny_model(MODEL)


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["never", "always"])
@pytest.mark.parametrize("processes", [2, 4])
def test_the_loss_curve_is_that_of_one_process(tmp_path: Path, shard: str, processes: int) -> None:
    """50 steps at the same global batch, with micro-batches; the model folder and the state are ordinary ones."""
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=50, batch_size=8, accumulate=2, save_every=50)
    raw["stages"][0]["init"] = LLAMA
    write(tmp_path / "recipes", "causal", raw, shard=shard)
    alone(tmp_path / "recipes", tmp_path / "one")
    launch(processes, tmp_path / "recipes", tmp_path / "many")
    assert facts(tmp_path / "many", "causal") | {"processes": 0} != facts(tmp_path / "one", "causal")
    assert facts(tmp_path / "many", "causal")["processes"] == processes
    assert facts(tmp_path / "many", "causal")["shared_out"] == (shard == "always")
    one, many = losses(tmp_path / "one", "causal"), losses(tmp_path / "many", "causal")
    assert len(one) == len(many) == 50
    assert max(abs(a - b) / a for a, b in zip(one, many, strict=True)) < 1e-5
    assert_same(tmp_path / "one", tmp_path / "many", "causal")
    folders = [sorted(str(f.relative_to(tmp_path / n)) for f in (tmp_path / n).rglob("*")) for n in ("one", "many")]
    assert folders[0] == folders[1]


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["never", "always"])
def test_every_part_with_a_state_does_the_same_in_two_processes(tmp_path: Path, shard: str) -> None:
    for room, name in ALL:
        if room not in WITH_STATE or (shard == "always" and not getattr(make(room, name), "with_shares", True)):
            continue
        folder = tmp_path / f"{room}-{name}"
        folder.mkdir()
        write(tmp_path / "recipes", f"{room}-{name}", small_run(room, name, folder), shard=shard)
    alone(tmp_path / "recipes", tmp_path / "one")
    launch(2, tmp_path / "recipes", tmp_path / "two")
    problems = []
    for file in sorted((tmp_path / "recipes").glob("*.yaml")):
        assert facts(tmp_path / "two", file.stem)["shared_out"] == (shard == "always")
        try:
            assert_same(tmp_path / "one", tmp_path / "two", file.stem)
        except AssertionError as error:
            problems.append(f"{file.stem}: {error}")
    assert not problems, "\n".join(problems)


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["never", "always"])
def test_layouts_do_the_same_in_two_processes(tmp_path: Path, shard: str) -> None:
    layouts = ("padded", "bucketed", "unpadded")
    for layout in layouts:
        raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), objective="masked", steps=8, accumulate=2, layout=layout)
        if layout != "padded":
            raw["stages"][0]["data"] |= {"packing": "single", "length": 32}
        write(tmp_path / "recipes", layout, raw, shard=shard)
    alone(tmp_path / "recipes", tmp_path / "one")
    launch(2, tmp_path / "recipes", tmp_path / "two")
    for layout in layouts:
        assert_same(tmp_path / "one", tmp_path / "two", layout)


@pytest.mark.slow
@pytest.mark.parametrize(("shard", "before", "after"), [("never", 4, 2), ("always", 2, 4), ("always", 2, 1)])
def test_a_run_resumed_by_other_processes_goes_on_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str, before: int, after: int
) -> None:
    """The rows of each step, over all processes, are those of a run without interruption, and so are the weights."""
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), objective="masked", steps=14, batch_size=8, save_every=4)
    write(tmp_path / "recipes", "masked", raw, shard=shard)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_own_micro_batches", Training._own_micro_batches)
        write_down_rows(tmp_path / "rows-whole")
        alone(tmp_path / "recipes", tmp_path / "whole")
    rows = ("--rows", str(tmp_path / "rows-cut"))
    launch(before, tmp_path / "recipes", tmp_path / "cut", *rows, "--stop-at", "5")
    assert not (tmp_path / "cut/masked/stages/00-first/stage.json").exists()
    launch(after, tmp_path / "recipes", tmp_path / "cut", *rows)
    assert facts(tmp_path / "cut", "masked")["processes"] == after

    def seen(folder: Path) -> Counter[str]:
        return Counter(line for file in folder.iterdir() for line in file.read_text().splitlines())

    assert seen(tmp_path / "rows-cut") == seen(tmp_path / "rows-whole")
    assert seen(tmp_path / "rows-whole").total() == 14 * 8
    assert_same(tmp_path / "whole", tmp_path / "cut", "masked")


def test_parts_that_need_whole_weights_refuse_shares(tmp_path: Path) -> None:
    refused = []
    for room, name in ALL:
        if room in ("objectives", "trainable", "penalties", "gradients"):
            folder = tmp_path / f"{room}-{name}"
            folder.mkdir()
            stage = Recipe.model_validate(small_run(room, name, folder)).stages[0]
            if make(room, name).with_shares:  # type: ignore[attr-defined]
                check_shares(stage)
            else:
                with pytest.raises(UserError, match=rf"'{name}' works on whole weights.*train.shard: never"):
                    check_shares(stage)
                refused.append(name)
    assert {"ewc", "synaptic-intelligence", "rwalk", "a-gem", "sparse", "sub-models"} <= set(refused)
