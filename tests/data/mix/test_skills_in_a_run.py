"""Skill-It from the recipe to the log: trials, rounds, the budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import warmstart
from warmstart.train.metrics import read_metrics
from warmstart.train.progress import Reporter

NAMES = ("one", "two", "three")


def recipe(graph: Any, **budget: float) -> Any:
    sources = [
        {"type": "lego", "clauses": 3, "skill": number + 1, "size": 300, "label": name}
        for number, name in enumerate(NAMES)
    ]
    model = {"like": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 24}
    return warmstart.Recipe.model_validate(
        {
            "seed": 3,
            "stages": [
                {
                    "init": model | {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
                    "tokenizer": {"train": 320},
                    "data": {
                        "source": sources,
                        "length": 24,
                        "end_of_text": False,
                        "split": {"validation": 0.2},
                        "mix": {"type": "skill-it", "graph": graph, "eta": 2.0, "window": 2},
                    },
                    "train": {"batch_size": 8, "learning_rate": 0.01, "log_every": 1, "trackers": []},
                    "evaluate": {"every": 4, "evaluators": [{"type": "held-out", "tokens": 2000}]},
                    "budget": budget,
                }
            ],
        }
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))


def shares(lines: list[dict[str, Any]]) -> list[list[float]]:
    return [[line[f"mix/{name}"] for name in NAMES] for line in lines if "mix/one" in line]


def test_rounds_change_the_mixture_between_evaluations(tmp_path: Path) -> None:
    chain = {"one": {"one": 1.0, "two": 0.5}, "two": {"two": 1.0, "three": 0.5}, "three": {"three": 1.0}}
    warmstart.run(recipe(chain, steps=12), tmp_path / "run", reporter=Reporter())
    found = shares(read_metrics(tmp_path / "run" / "stages" / "00-stage" / "metrics.jsonl"))
    assert len(found) == 12
    assert found[0] == found[3] != found[4] == found[7] != found[8]
    assert all(sum(line) == pytest.approx(1) for line in found)
    assert found[0][0] == found[0][1] > found[0][2], "who feeds two skills begins with more"


def test_the_graph_is_learned_within_the_budget_and_kept(tmp_path: Path) -> None:
    budget = 3e8
    result = warmstart.run(recipe({"learn": 3}, flops=budget), tmp_path / "run", reporter=Reporter())
    stage = result.stages[0]
    folder = tmp_path / "run" / "stages" / "00-stage"
    settled = json.loads((folder / "settled.json").read_text())
    graph = settled["mix"]["graph"]
    assert set(graph) == set(NAMES)
    assert all(set(edges) == set(NAMES) and max(edges.values()) > 0.01 for edges in graph.values())
    assert 0 < stage["trial_flops"] < stage["flops"] <= budget
    given = warmstart.run(recipe(graph, flops=budget), tmp_path / "given", reporter=Reporter()).stages[0]
    assert given["steps"] > stage["steps"], "what the trials cost is missing from the training"
    first = shares(read_metrics(folder / "metrics.jsonl"))[0]
    assert first == pytest.approx(shares(read_metrics(tmp_path / "given" / "stages" / "00-stage" / "metrics.jsonl"))[0])
    again = warmstart.run(recipe({"learn": 3}, flops=budget), tmp_path / "again", reporter=Reporter()).stages[0]
    assert again["weights"] == stage["weights"]
