"""States, exchange and saved files of two real processes are, byte for byte, what the formulas say."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from corpora import tiny_recipe, write_corpus
from transformers import AutoConfig

from warmstart.forecast.cluster.activations import Batch
from warmstart.forecast.cluster.communication import exchanged
from warmstart.forecast.cluster.memory import gradients_of_step, lasting_parts, put_together
from warmstart.forecast.cluster.saving import state_bytes
from warmstart.forecast.cluster.shape import Shape, shape_of

pytestmark = pytest.mark.slow

LLAMA = {
    "like": "llama",
    "hidden_size": 18,  # not every tensor divides evenly
    "num_hidden_layers": 3,
    "intermediate_size": 27,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "tie_word_embeddings": False,
}
KINDS = {
    f"{shard}-{precision}-{accumulate}": (shard, precision, accumulate)
    for shard in ("never", "always")
    for precision in ("fp32", "bf16")
    for accumulate in (1, 2)
}
STEPS = 4


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds, in one launch of two processes."""
    folder = tmp_path_factory.mktemp("counted")
    corpus = write_corpus(folder / "c.jsonl")
    for name, (shard, precision, accumulate) in KINDS.items():
        raw = tiny_recipe(
            corpus, steps=STEPS, save_every=STEPS, accumulate=accumulate, precision=precision, shard=shard
        )
        raw["stages"][0]["init"] = LLAMA
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(raw))
    (folder / "out").mkdir()
    script = Path(__file__).with_name("counted_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(script), str(folder), str(folder / "out")],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[:9000]
    return folder / "out"


def counted(out: Path, name: str, rank: int = 0) -> Any:
    """The last step: in the first one DDP has other buckets, and there are no moments."""
    found = json.loads((out / f"{name}-{rank}.json").read_text())
    assert len(found) == STEPS
    return found[-1]


def expected(out: Path, name: str) -> tuple[Shape, Batch, int]:
    shard, precision, accumulate = KINDS[name]
    config = AutoConfig.from_pretrained(out / name / "stages/00-first/model")
    return shape_of(config), Batch(1, 16, precision, shard == "always"), accumulate


@pytest.mark.parametrize("name", KINDS)
def test_weights_gradients_and_moments(out: Path, name: str) -> None:
    shape, batch, accumulate = expected(out, name)
    lasting = lasting_parts(shape, batch.shares, 2)
    step = gradients_of_step(shape, batch, 2, accumulate)
    held = counted(out, name)["held"]
    assert held["weights"] == lasting["weights"]
    assert held["gradients"] == step["gradients"]
    if batch.shares:  # moments are not padded
        other = counted(out, name, 1)["held"]["moments"]
        assert held["moments"] <= lasting["moments"]
        assert held["moments"] + other == 8 * shape.weights
    else:
        assert held["moments"] == lasting["moments"]
        assert held["buckets"] == step["gradients"]  # the same memory


@pytest.mark.parametrize("name", [name for name in KINDS if "always" in name])
def test_what_is_whole_for_a_while(out: Path, name: str) -> None:
    shape, batch, accumulate = expected(out, name)
    found = counted(out, name)
    every = json.loads((out / f"{name}-0.json").read_text())
    for where, size in put_together(shape, batch, 2).items():
        # On a busy machine a thread of the exchange may still hold what the step is done with: the step with least.
        assert min(step["held"][f"put together {where}"] for step in every) == size
    earlier = gradients_of_step(shape, batch, 2, accumulate).get("gradients, whole, of earlier micro-batches", 0)
    assert found["held"]["waiting"] == earlier


@pytest.mark.parametrize("name", KINDS)
def test_what_is_exchanged(out: Path, name: str) -> None:
    shape, batch, accumulate = expected(out, name)
    assert counted(out, name)["sent"] == exchanged(shape, batch, 2, accumulate)


@pytest.mark.parametrize("name", ["never-fp32-1", "always-bf16-1"])
def test_the_saved_state(out: Path, name: str) -> None:
    shape, _, _ = expected(out, name)
    for group, size in state_bytes(shape).items():
        file = out / name / f"stages/00-first/state/step-{STEPS:08d}/{group}.safetensors"
        content = file.read_bytes()
        (header,) = struct.unpack("<Q", content[:8])
        assert len(content) - 8 - header == size
        assert header < 400 * len(shape.tensors)
