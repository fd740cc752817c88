"""Made-up results and a made-up run folder, for the tests of the reports."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

BUDGET = 3e12


def digest(*words: Any) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def curve(start: float, end: float, speed: float, seed: int) -> list[dict[str, float]]:
    """Eleven evaluations of a loss that falls from `start` to `end` (a little different for each seed)."""
    shares = [k / 10 for k in range(11)]
    values = [end + (start - end) * (math.exp(-speed * s) - math.exp(-speed) * s) + 0.01 * seed for s in shares]
    return [{"flops": BUDGET * s, "tokens": 1e6 * s, "value": v} for s, v in zip(shares, values, strict=True)]


def arm(start: float, end: float, speed: float, seeds: int, *, name: str, source: bool) -> dict[str, Any]:
    points = [curve(start, end, speed, seed) for seed in range(seeds)]
    return {
        "flops": [BUDGET] * seeds,
        "tokens": [1e6] * seeds,
        "seconds": [100.0 + seed for seed in range(seeds)],
        "peak_memory_bytes": [5 << 28] * seeds,
        "parameters": 850_000,
        "reused_flops": [6e11 * source] * seeds,
        "final": [p[-1]["value"] for p in points],
        "curve": {key: [[e[key] for e in p] for p in points] for key in ("flops", "tokens")}
        | {"values": [[e["value"] for e in p] for p in points]},
        "lineage": [lineage(name, seed, source) for seed in range(seeds)],
    }


def lineage(name: str, seed: int, source: bool) -> dict[str, Any]:
    chain = [("start", "random gpt2", None)]
    if source:
        chain = [
            ("small", "random gpt2", None),
            ("small trained", "train", 6e11),
            (f"{name} grown", f"grow {name}", None),
        ]
    chain.append((f"{name} end", "train", BUDGET))
    nodes, edges, before = [], [], None
    for title, operation, flops in chain:
        identity = digest(title, seed)
        nodes.append({"id": identity, "name": title, "parameters": 850_000})
        edge = {"from": before, "to": identity, "operation": operation} | ({"flops": flops} if flops else {})
        edges.append(edge)
        before = identity
    return {"nodes": nodes, "edges": edges}


def study_fields(seeds: int = 3, **over: Any) -> dict[str, Any]:
    """The fields of a `Results`: one arm is clearly better, one does nothing, one is clearly worse."""
    return {
        "slug": "tiny",
        "family": "weights",
        "title": "Grow a tiny model",
        "idea": "Copy what is there.",
        "scale": "laptop",
        "commit": digest("commit")[:12],
        "versions": {"python": "3.11", "warmstart": "0.1.0", "torch": "2.13.0"},
        "machine": {"cpu": "A processor", "cores": 2, "gpu": None, "memory_bytes": 8 << 30, "precision": "fp32"},
        "date": "2026-01-02",
        "seeds": list(range(seeds)),
        "metric": "validation/loss",
        "better": "lower",
        "baseline": "scratch",
        "paper": {"title": "A paper", "arxiv": "2110.07143", "year": 2021},
        "claim": {"what": "training compute saved", "value": 0.47, "where": "a larger model"},
        "sources": {"small": {"flops": [6e11] * seeds, "tokens": [2e5] * seeds, "seconds": [9.0] * seeds}},
        "arms": {
            "scratch": arm(8.0, 4.0, 5.0, seeds, name="scratch", source=False),
            "grown": arm(4.6, 3.7, 5.0, seeds, name="grown", source=True),
            "worse": arm(8.0, 4.4, 5.0, seeds, name="worse", source=True),
        },
        "data": {"fingerprint": digest("data"), "statistics": {"documents": 1723, "tokens": 6_100_000}},
        "recipe": "title: Grow a tiny model\narms: {}\n",
    } | over


def write_run(folder: Path, stages: int = 2, *, finished: bool = True, title: str = "A run") -> Path:
    """A run folder as `warmstart run` leaves it behind, without the models."""
    for number in range(stages):
        name = f"{number:02d}-stage"
        stage = folder / "stages" / name
        stage.mkdir(parents=True)
        lines = []
        for step in range(0, 41, 10):
            counts = {"step": step, "tokens": step * 100, "flops": step * 1e9, "seconds": step * 0.1}
            loss = 4 + math.exp(-step / 20) - number
            if step:
                trained = {"loss": loss, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens_per_second": 9.0}
                lines.append(counts | trained)
            lines.append(counts | {"validation/loss": loss, "validation/perplexity": math.exp(loss)})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (stage / "metrics.jsonl").write_text(text + '{"step": 41, "los', encoding="utf-8")
        if finished or number < stages - 1:
            facts = {
                "folder": name, "steps": 40, "tokens": 4000, "flops": 4e10, "seconds": 4.0, "precision": "fp32",
                "peak_memory_bytes": 1 << 30, "parameters": 1000, "final": {"validation/loss": 3.9},
                "surgery": [{"surgery": {"type": "grow"}, "promise": "exactly", "largest": 2e-6}] if number else [],
                "data": {"fingerprint": digest("d"), "statistics": {"documents": 17}},
            }  # fmt: skip
            (stage / "stage.json").write_text(json.dumps(facts), encoding="utf-8")
    run = {"versions": {"warmstart": "0.1.0"}, "commit": None, "machine": {"cores": 2}}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "lineage.json").write_text(json.dumps(lineage("grown", 0, True)), encoding="utf-8")
    (folder / "recipe.yaml").write_text(json.dumps({"title": title, "seed": 0}), encoding="utf-8")
    return folder
