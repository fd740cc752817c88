"""A step's parts together, the settings that fit, and what `warmstart check --processes` says of them."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from corpora import TINY_GPT2, tiny_recipe
from tiny_configurations import tiny
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from warmstart.cli import app
from warmstart.errors import UserError
from warmstart.forecast.cluster.activations import Batch
from warmstart.forecast.cluster.live import LiveBytes
from warmstart.forecast.cluster.machine import H100, Rates
from warmstart.forecast.cluster.outlook import fastest, most_rows, outlook
from warmstart.plan import Cluster, check

RATES = Rates(save=1.0, collate=1e5, grow=1.0, tokenise=1.0)
QUICK = replace(H100, inside=1e18)
"""Links that cost no time, so that computing decides."""
ROOT = Path(__file__).parents[3]


def test_a_step_stays_below_its_sum() -> None:
    """Everything that is alive in two steps of one process: below the sum, and not far below it."""
    config = tiny("llama", hidden_size=96, intermediate_size=272)
    batch = Batch(2, 32, "fp32", shares=False)
    with LiveBytes() as live:
        model = AutoModelForCausalLM.from_config(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        tokens = torch.zeros(2, 32, dtype=torch.long)
        positions = torch.arange(32).expand(2, -1) % 16
        for _ in range(2):
            logits = model(input_ids=tokens, position_ids=positions, use_cache=False).logits
            loss = torch.log_softmax(logits.flatten(0, 1), 1)[:, 0].mean()
            del logits
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    most = outlook(config, batch, 1).memory
    assert 0.75 * most < live.peak <= most


@pytest.mark.slow
def test_the_fastest_settings_that_fit() -> None:
    """With room for everything: nothing is exchanged more often, or computed twice, than must be. With less: what
    saves memory. With too little: nothing."""
    config, like = tiny("llama", hidden_size=96, intermediate_size=272), Batch(1, 32)
    roomy = fastest(config, like, 16, 2, machine=QUICK, rates=RATES)
    assert roomy is not None
    assert (roomy.batch.checkpointing, roomy.rows) == (False, 16)
    assert roomy.seconds == roomy.compute + roomy.collate
    assert roomy.seconds_in_turn == pytest.approx(roomy.compute + roomy.exchange + 16 * 32 / 1e5)
    known = {roomy.memory}
    for memory in (10e6, 8e6, 6e6, 5e6):
        found = fastest(config, like, 16, 2, machine=replace(QUICK, memory=memory), rates=RATES)
        if found is not None:
            assert found.memory <= 0.9 * memory
            known.add(found.memory)
    assert len(known) >= 2
    assert fastest(config, like, 16, 2, machine=replace(QUICK, memory=1e6)) is None


@pytest.mark.slow
def test_the_most_rows() -> None:
    config, like = tiny("llama"), Batch(1, 32)
    machine = replace(H100, memory=20e6)
    most = most_rows(config, like, 2, machine=machine)
    assert outlook(config, replace(like, rows=most), 2, machine=machine).fits(machine)
    assert not outlook(config, replace(like, rows=most + 1), 2, machine=machine).fits(machine)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    raw = tiny_recipe(tmp_path / "c.jsonl", batch_size=16, precision="auto")
    raw["stages"].append(
        {
            "surgery": [{"type": "grow", "to": {"n_embd": 32, "n_head": 4}}],
            "data": raw["stages"][0]["data"],
            "train": {"batch_size": 16, "shard": "always"},
            "budget": {"steps": 3},
        }
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_check_says_what_each_process_holds(recipe: Path) -> None:
    lines = check(recipe, cluster=Cluster(2))
    told = [line for line in lines if line.strip().startswith("memory")]
    assert len(told) == 2
    assert [line.strip() for line in lines].count("fits         into 72.0 GB (80.0 less a tenth)") == 2
    # The first stage has copies, the second, grown to twice the width, shares.
    assert "layers put together" not in told[0]
    assert "layers put together" in told[1]
    weights = [float(re.search(r"weights ([\d.e-]+)", line)[1]) for line in told]  # type: ignore[index]
    small, large = (
        sum(p.numel() for p in AutoModelForCausalLM.from_config(tiny("gpt2", **sizes)).parameters())
        for sizes in (
            {"vocab_size": 300, "n_inner": None, "n_positions": 32}
            | {k: v for k, v in TINY_GPT2.items() if k != "like"},
            {"vocab_size": 300, "n_inner": None, "n_positions": 32, "n_layer": 2, "n_embd": 32, "n_head": 4},
        )
    )
    assert weights == pytest.approx([4 * small / 1e9, 4 * large / 2 / 1e9], rel=0.05)


@pytest.mark.parametrize(
    ("gigabytes", "expected"),
    [
        (0.0012, "first set train.shard: always and train.activation_checkpointing: true"),
        (0.0001, "use more processes, a smaller train.batch_size or a shorter data.length"),
    ],
)
def test_check_says_what_to_change_first(recipe: Path, gigabytes: float, expected: str) -> None:
    text = "\n".join(check(recipe, overrides=["stages.1.train.shard=never"], cluster=Cluster(2, gigabytes)))
    assert "too large    for" in text
    assert expected in text


def test_check_refuses_what_cannot_be(recipe: Path) -> None:
    with pytest.raises(UserError, match="16 blocks cannot be shared by 3 processes x 1 micro-batches"):
        check(recipe, cluster=Cluster(3))
    with pytest.raises(UserError, match="--processes is for a recipe"):
        check("bert2bert", cluster=Cluster(2))
    result: Any = CliRunner().invoke(app, ["check", str(recipe), "--processes", "3"])
    assert result.exit_code == 2
    assert "cannot be shared by 3 processes" in result.output


def test_check_says_what_it_does_not_know(tmp_path: Path, recipe: Path) -> None:
    hub = check(recipe, overrides=["stages.1.from=some/model", "stages.1.surgery=[]"], cluster=Cluster(2))
    assert sum("memory       not known: the model is on the hub" in line for line in hub) == 1
    raw = tiny_recipe(tmp_path / "c.jsonl", objective="masked")
    (tmp_path / "masked.yaml").write_text(yaml.safe_dump(raw))
    masked = check(tmp_path / "masked.yaml", cluster=Cluster(2))
    assert any("not known: it is computed for the objective causal, not for masked" in line for line in masked)


@pytest.mark.slow
def test_the_page_is_up_to_date() -> None:
    """docs/scale.md has the tables that its script makes of the formulas and the measured rates."""
    names = runpy.run_path(str(ROOT / "docs/scale_tables.py"))
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- table: (\S+) -->", page)) == set(names["TABLES"])
    assert names["filled"](page) == page
