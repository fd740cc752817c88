"""What two processes say to each other in a step, and that a loss in chunks goes through whatever wraps the model."""

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
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

DETECTION = {"type": "replaced-token-detection"}
SUB_MODELS = {"type": "sub-models", "layers": 1}
STEPS = 4
RECIPES: dict[str, dict[str, Any]] = {  # name -> changes of the stage
    "whole": {},
    "chunked": {},
    "chunked-shares": {"train": {"shard": "always"}},
    "chunked-accumulated": {"train": {"accumulate": 2}},
    "chunked-checkpointed": {"train": {"activation_checkpointing": True}},
    "chunked-checkpointed-shares": {"train": {"activation_checkpointing": True, "shard": "always"}},
    "whole-sub-models": {"train": {"trainable": SUB_MODELS}},
    "chunked-sub-models": {"train": {"trainable": SUB_MODELS}},
    "whole-detection": {"objective": DETECTION},
    "whole-detection-accumulated": {"objective": DETECTION, "train": {"accumulate": 2}},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of all recipes in two processes."""
    folder = tmp_path_factory.mktemp("exchange")
    corpus = write_corpus(folder / "c.jsonl")
    for name, changes in RECIPES.items():
        head = "masked" if "objective" in changes else "causal"
        raw = tiny_recipe(corpus, objective=head, steps=STEPS, save_every=STEPS)
        stage = raw["stages"][0]
        stage["init"] = (
            stage["init"]
            | {
                "causal": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
                "masked": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
            }[head]
        )  # what dropout draws depends on the micro-batches
        stage["objective"] = changes.get("objective", head)
        stage["train"] |= changes.get("train", {})
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(raw))
    script = Path(__file__).with_name("run_counted.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (folder / "out").mkdir()
    command = [*launch, str(script), str(folder), str(folder / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


def counted(out: Path, name: str) -> Any:
    return json.loads((out / f"{name}.json").read_text())


def weights(out: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(out / name / "stages/00-first/model/model.safetensors")


def assert_same_weights(out: Path, one: str, other: str) -> None:
    theirs = weights(out, other)
    for name, tensor in weights(out, one).items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("chunked", "whole"),
        ("chunked-shares", "chunked"),
        ("chunked-sub-models", "whole-sub-models"),
        ("chunked-accumulated", "chunked"),
        ("chunked-checkpointed", "chunked"),
        ("chunked-checkpointed-shares", "chunked"),
        ("whole-detection-accumulated", "whole-detection"),
    ],
)
def test_the_same_weights(out: Path, one: str, other: str) -> None:
    assert_same_weights(out, one, other)


def test_which_losses_came_in_chunks(out: Path) -> None:
    found = {name: counted(out, name)["chunked"] for name in RECIPES}
    assert all((found[name] > STEPS) == name.startswith("chunked") for name in RECIPES), found


@pytest.mark.parametrize("name", ["chunked", "whole-detection"])
def test_accumulating_exchanges_no_gradient_twice(out: Path, name: str) -> None:
    """Every bucket of the model once a step, and of an objective's own modules every tensor once, however many
    micro-batches there are. (The one tensor more are the losses for the log.)"""
    one, two = counted(out, name)["steps"], counted(out, f"{name}-accumulated")["steps"]
    assert len(one) == len(two) == STEPS
    for number, (step, accumulated) in enumerate(zip(one, two, strict=True)):
        assert step == accumulated
        assert len(step["buckets"]) > 1 or number == 0  # before it has seen a step, PyTorch has one bucket
        assert all(times == 1 for _, times in step["buckets"])
    if name == "chunked":
        assert one[0]["others"] == 1
    else:
        extra = load_file(out / name / f"stages/00-first/state/step-{STEPS:08d}/extra.safetensors")
        shared = {name for name in extra if name.startswith("network.") and "embeddings" in name}
        assert 1 + len(extra) - len(shared) <= one[0]["others"] <= 1 + len(extra)
