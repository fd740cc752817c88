"""The run that faults are tried on, and what must be the same after each of them.

Two stages over two sources with everything a run folder can hold: a rate by probe (`settled.json`), an evaluator that
compares with the start (`start.safetensors`), a penalty that hands something to the second stage, a trained tokenizer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from corpora import tiny_recipe, write_corpus
from safetensors.torch import load_file

from warmstart.models.save import digest_of
from warmstart.train.metrics import read_metrics

TIMED = ("seconds", "tokens_per_second", "peak_memory_bytes", "files", "checksum")
"""What differs between two runs of one recipe; `files` has the checksum of the metrics, which have the time."""
STAGES = ("00-first", "01-second")


def two_stages(folder: Path, *, steps: int = 12, sources: Path | None = None, **train: Any) -> dict[str, Any]:
    """A recipe over two files of text, which are written into `sources` (default: `folder`) where they are missing."""
    sources = sources or folder
    sources.mkdir(parents=True, exist_ok=True)
    files = [sources / "one.jsonl", sources / "two.jsonl"]
    for number, file in enumerate(files):
        if not file.exists():
            write_corpus(file, documents=40, seed=number)
    raw = tiny_recipe(files[0], steps=steps, **{"save_every": 3, "penalties": ["synaptic-intelligence"]} | train)
    first = raw["stages"][0]
    first["data"]["source"] = [{"type": "files", "path": str(f), "label": f.stem} for f in files]
    first["data"]["curate"] = ["exact-duplicates", "near-duplicates"]
    first["evaluate"]["evaluators"].append("relative-update")
    second = {key: first[key] for key in ("data", "train", "budget", "evaluate")} | {"name": "second"}
    return raw | {"stages": [first, second]}


def own_cache(folder: Path) -> Path:
    """From now on this process's cache is `folder`/cache."""
    os.environ["WARMSTART_CACHE"] = str(folder / "cache")
    return folder / "cache"


def result(out: Path) -> dict[str, Any]:
    """All that a run says and leaves, the clock apart."""
    found: dict[str, Any] = {}
    for stage in sorted((out / "stages").iterdir()):
        facts = json.loads((stage / "stage.json").read_text())
        found[f"{stage.name} facts"] = {key: value for key, value in facts.items() if key not in TIMED}
        found[f"{stage.name} metrics"] = [
            {key: value for key, value in line.items() if key not in TIMED}
            for line in read_metrics(stage / "metrics.jsonl")
        ]
        found[f"{stage.name} weights"] = digest_of(load_file(stage / "model/model.safetensors"))
        for file in sorted((stage / "model").iterdir()):
            if file.suffix == ".json":
                found[f"{stage.name} {file.name}"] = file.read_text()
    lineage = json.loads((out / "lineage.json").read_text())
    found["lineage"] = [sorted(map(json.dumps, lineage[part])) for part in ("nodes", "edges")]
    return found
