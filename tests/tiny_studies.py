"""Small studies that several tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpora import TINY_GPT2, tiny_recipe


def tiny_study(corpus: Path, flops: float = 2e8) -> dict[str, Any]:
    shared = tiny_recipe(corpus)["stages"][0]
    for name in ("name", "init", "budget"):
        shared.pop(name)
    grow = {"type": "grow", "width": "fpi", "to": {"n_embd": 32, "n_head": 4}}
    return {
        "title": "tiny study",
        "compare": {"baseline": "scratch", "flops": flops, "seeds": 2},
        "claim": {"what": "training compute saved", "value": 0.5, "where": "elsewhere"},
        "shared": shared,
        "sources": {"small": [{"init": TINY_GPT2, "budget": {"steps": 6}}]},
        "arms": {
            "scratch": [{"init": TINY_GPT2 | {"n_embd": 32, "n_head": 4}}],
            "fpi": [{"from": "small", "surgery": [grow]}],
            "staged": [
                {
                    "from": "small",
                    "surgery": [grow],
                    "budget": {"share": 0.3},
                    "train": {"trainable": {"type": "sub-models", "layers": 1}},
                },
                {},
            ],
        },
    }


def stopping_study(corpus: Path, seeds: int = 2) -> dict[str, Any]:
    """Three arms of which one hardly learns, all from nothing."""
    raw = tiny_study(corpus, flops=4e8)
    del raw["sources"]
    start = raw["arms"]["scratch"][0]
    raw["arms"] = {"scratch": [start]} | {
        name: [start | {"train": {"learning_rate": rate}}] for name, rate in (("a", 1e-3), ("b", 1.1e-3), ("c", 1e-7))
    }
    raw["shared"]["evaluate"]["every"] = 0.1
    raw["compare"] |= {"seeds": seeds, "stop": "forecast"}
    return raw
