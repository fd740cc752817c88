"""A run from the recipe to the folder it leaves behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from corpora import tiny_recipe, write_corpus

import warmstart
from warmstart.errors import ModelError, UserError
from warmstart.models.save import weights_hash
from warmstart.train.progress import Reporter


class Listener(Reporter):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def event(self, kind: str, **values: object) -> None:
        if kind == "note":
            self.notes.append(str(values["text"]))


@pytest.mark.parametrize(("objective", "auto"), [("causal", AutoModelForCausalLM), ("masked", AutoModelForMaskedLM)])
def test_every_stage_opens_in_plain_transformers(tmp_path: Path, objective: str, auto: type) -> None:
    recipe = warmstart.Recipe.model_validate(
        tiny_recipe(write_corpus(tmp_path / "c.jsonl"), objective=objective, steps=3)
    )
    result = warmstart.run(recipe, tmp_path / "run", reporter=Reporter())
    model = auto.from_pretrained(result.model)
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    assert weights_hash(model) == result.stages[0]["weights"]
    tokens = tokenizer("Ann likes apples.", return_tensors="pt")
    assert torch.isfinite(model(**tokens).logits).all()
    assert len(tokenizer) <= model.config.vocab_size
    for name in ("recipe.yaml", "run.json", "lineage.json", "report.html"):
        assert (tmp_path / "run" / name).is_file()


def test_grow_in_a_second_stage_and_lineage(tmp_path: Path) -> None:
    """small -> grown (function kept) -> trained, and the lineage says so by hash."""
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=4)
    grown = {k: v for k, v in raw["stages"][0].items() if k not in ("init", "tokenizer", "name")}
    grown |= {
        "name": "larger",
        "surgery": [{"type": "grow", "width": "exact", "to": {"n_embd": 24, "n_head": 3}}],
    }
    raw["stages"].append(grown)
    listener = Listener()
    result = warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "run", reporter=listener)
    assert any("largest logit difference" in note for note in listener.notes)
    assert any("weights train" in note for note in listener.notes)
    first, second = result.stages
    lines = [json.loads(line) for line in (tmp_path / "run/stages/01-larger/metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[0]["validation/loss"] == pytest.approx(first["final"]["validation/loss"], abs=1e-4)
    lineage = json.loads((tmp_path / "run/lineage.json").read_text())
    parent = {edge["to"]: edge for edge in lineage["edges"]}
    trained = parent[second["weights"]]
    assert trained["operation"] == "train"
    assert parent[trained["from"]]["operation"].startswith("grow")
    assert parent[trained["from"]]["from"] == first["weights"]
    assert second["reused_flops"] == pytest.approx(first["flops"])


def test_a_run_can_start_from_another_runs_model(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2)
    one = warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "one", reporter=Reporter())
    stage = raw["stages"][0]
    del stage["init"], stage["tokenizer"]
    stage["from"] = str(one.model)
    two = warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "two", reporter=Reporter())
    assert two.stages[0]["reused_flops"] == pytest.approx(one.stages[0]["flops"])


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    recipe = warmstart.Recipe.model_validate(tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2))
    first = warmstart.run(recipe, tmp_path / "run", reporter=Reporter())
    before = (first.model / "model.safetensors").stat().st_mtime_ns
    warmstart.run(recipe, tmp_path / "run", reporter=Reporter())
    assert (first.model / "model.safetensors").stat().st_mtime_ns == before


def test_the_resolved_recipe_runs_to_the_same_weights(tmp_path: Path) -> None:
    recipe = warmstart.Recipe.model_validate(tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2))
    first = warmstart.run(recipe, tmp_path / "one", reporter=Reporter())
    again = warmstart.Recipe.model_validate(yaml.safe_load((tmp_path / "one/recipe.yaml").read_text()))
    assert (
        warmstart.run(again, tmp_path / "two", reporter=Reporter()).stages[0]["weights"] == first.stages[0]["weights"]
    )


def test_bad_starts(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")

    def attempt(change: dict, message: str) -> None:
        raw = tiny_recipe(corpus, steps=2)
        raw["stages"][0] |= change
        if "from" in change:
            raw["stages"][0].pop("init")
        with pytest.raises(UserError, match=message) as caught:
            warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "run", resume=False, reporter=Reporter())
        assert "\n" not in str(caught.value)

    attempt({"init": {"like": "gpt3"}}, "gpt3.*did you mean")
    attempt({"init": {"like": "gpt2", "n_embed": 16}}, "n_embed.*did you mean 'n_embd'")
    attempt({"init": {"like": "gpt2", "n_embd": 15, "n_head": 2, "n_layer": 1}}, "cannot be built")
    attempt({"init": {"like": "gpt2", "n_embd": 16, "n_head": 2, "n_layer": 1, "n_positions": 8}}, "positions")
    attempt(
        {
            "init": {
                "like": "gpt2",
                "n_embd": 16,
                "n_head": 2,
                "n_layer": 1,
                "n_positions": 32,
                "vocab_size": 100,
            }
        },
        "vocab",
    )
    attempt({"from": str(tmp_path / "nothing")}, "no model folder")
    (tmp_path / "empty").mkdir()
    attempt({"from": str(tmp_path / "empty")}, "config.json")
    (tmp_path / "file").write_text("x")
    raw = warmstart.Recipe.model_validate(tiny_recipe(corpus))
    with pytest.raises(UserError, match="is a file"):
        warmstart.run(raw, tmp_path / "file", reporter=Reporter())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not a run folder"):
        warmstart.run(raw, tmp_path / "mine", resume=False, reporter=Reporter())
    assert (tmp_path / "mine/thesis.tex").exists()


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "c.jsonl"), steps=2)
    result = warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())
    (result.model / "model.safetensors").unlink()
    torch.save({}, result.model / "pytorch_model.bin")
    from warmstart.models.load import load_model

    with pytest.raises(ModelError, match="safetensors"):
        load_model(result.model, "causal")


def test_forgetting_is_visible(tmp_path: Path) -> None:
    """An old corpus that is named is measured at every evaluation, and the stage says by how much its loss rose."""
    raw = tiny_recipe(write_corpus(tmp_path / "new.jsonl"), steps=6)
    old = {"source": {"type": "files", "path": str(write_corpus(tmp_path / "old.jsonl", seed=5))}}
    raw["stages"][0]["evaluate"]["also"] = {"old": old}
    recipe = warmstart.Recipe.model_validate(raw)
    result = warmstart.run(recipe, tmp_path / "run", reporter=Reporter())
    lines = [json.loads(line) for line in (result.model.parent / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if "validation/loss" in line]
    assert [line["step"] for line in evaluations] == [0, 3, 6]
    assert all({"old/loss", "old/perplexity", "old/bits_per_byte", "old/accuracy"} <= set(line) for line in evaluations)
    facts = result.stages[0]
    assert facts["forgetting"] == {"old": evaluations[-1]["old/loss"] - evaluations[0]["old/loss"]}
    assert facts["forgetting"]["old"] != 0
    assert facts["also"]["old"]["fingerprint"] != facts["data"]["fingerprint"]
    assert facts["also"]["old"]["statistics"]["validation_tokens"] > 0
    assert "old/loss" in (tmp_path / "run/report.html").read_text()
    # without the further set the run is the same run
    del raw["stages"][0]["evaluate"]["also"]
    plain = warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "plain", reporter=Reporter())
    assert plain.stages[0]["weights"] == facts["weights"]


def test_a_further_set_that_cannot_be_prepared_is_named(tmp_path: Path) -> None:
    raw = tiny_recipe(write_corpus(tmp_path / "new.jsonl"), steps=2)
    raw["stages"][0]["evaluate"]["also"] = {"old": {"source": {"type": "files", "path": str(tmp_path / "none.jsonl")}}}
    with pytest.raises(UserError, match=r"evaluate\.also\.old: .*none\.jsonl"):
        warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "run", reporter=Reporter())
    raw["stages"][0]["evaluate"]["also"] = {"old": {"length": 64}}
    with pytest.raises(UserError, match=r"evaluate\.also\.old\.length 64 is more than"):
        warmstart.run(warmstart.Recipe.model_validate(raw), tmp_path / "two", reporter=Reporter())
