"""Every part there is, with settings that make it and a small recipe that trains with it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from corpora import TINY_BERT, TINY_GPT2, tiny_recipe, write_corpus
from image_text import pairs_recipe
from tiny_speech_models import TINY_SPEECH

from warmstart.part import ROOM_PACKAGES, Part, parts

MODEL = Path(tempfile.gettempdir()) / f"warmstart-test-parts-{os.getpid()}"  # a part's setting: known before any test

# Parts that cannot be made without settings, with settings that make them.
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("surgery", "grow"): {"to": {"n_embd": 64}},
    ("objectives", "clustered-token-detection"): {"clusters": 8},
    ("objectives", "protoclip"): {"prototypes": 3, "episode": 8, "hidden": 8, "outputs": 4, "teacher": "tf-idf"},
    ("evaluate", "zero-shot"): {"task": "x", "source": "shapes"},
    ("evaluate", "image-probe"): {"task": "x", "source": "shapes"},
    ("evaluate", "api-calls"): {"modules": {"validation": ["os"]}},
    ("evaluate", "stream"): {"sets": ["a", "b"]},
    ("surgery", "truncate-encoder"): {"layers": 1},
    ("penalties", "distil"): {"teacher": str(MODEL), "until": 3},
    ("trainable", "sub-models"): {"layers": 1},
    ("curate", "cluster"): {"clusters": 2},
    ("curate", "learnable-loss"): {"model": str(MODEL), "length": 16, "batch_size": 2},
    ("curate", "model-loss"): {"model": str(MODEL), "length": 16, "batch_size": 2, "hard": 5.0},
    ("curate", "ngram-perplexity"): {"where": {"label": "x"}},
    ("curate", "quality-classifier"): {"where": {"label": "x"}},
    ("curate", "quality-filter"): {"rules": ["fineweb"], "limits": {"line_punct_thr": 0, "short_line_thr": 1}},
    ("curate", "select"): {"budget": {"documents": 3}, "by": "row"},
    ("sources", "files"): {"path": "corpus/*.txt"},
    ("curate", "metadata-filter"): {"metadata": ["two"], "unigrams": 2, "bigrams": 1, "min_count": 1},
    ("curate", "metadata-balance"): {"column": "label", "threshold": 2},
    ("curate", "equal-size-sample"): {"column": "label", "threshold": 2},
    ("sources", "hugging-face"): {"path": "owner/name"},
    ("mix", "up-sample"): {"share": {"a": 0.3}},
    ("mix", "replay"): {"old": ["a"], "rate": 0.2},
    ("mix", "phases"): {"phases": [{"until": 0.4, "mix": "weighted"}, {"mix": "proportional"}]},
    ("mix", "rate-matched"): {"rates": {"web": 0.8, "a": 0.2}, "replace": ["web"], "by": "b"},
    ("mix", "skill-it"): {"graph": {"a": {"a": 1.0, "b": 0.5}, "b": {"b": 1.0}}},
    ("sources", "corpus"): {"name": "brown"},
    ("decode", "emulated"): {"base": "large", "reference": "small"},
    ("decode", "product"): {"models": ["large", "stage"]},
    ("evaluate", "probe"): {"task": "x", "source": "python-stdlib"},
    ("evaluate", "fine-tune"): {"task": "x", "source": "python-stdlib"},
    ("evaluate", "word-error-rate"): {"test": "tones"},
    ("sources", "espeak"): {"texts": "python-stdlib"},
    ("sources", "union"): {"members": [{"type": "files", "path": "a.txt"}, "python-stdlib"]},
}
TWO_SOURCES = {"up-sample", "replay", "rate-matched", "skill-it"}  # with the settings above
ALL = [
    (room, name)
    for room in ROOM_PACKAGES
    for name, kind in parts(room).items()
    if kind.__module__.startswith("warmstart.")
]


def make(room: str, name: str) -> Part:
    return parts(room)[name].model_validate({"type": name, **SETTINGS.get((room, name), {})})


def small_run(room: str, name: str, folder: Path) -> dict[str, Any]:
    """A recipe of two stages, the second on other rows, whose training the part accompanies."""
    made = make(room, name)
    part = made.model_dump(mode="json", by_alias=True)
    if getattr(made, "head", None) == "image-text":
        raw = pairs_recipe()
        raw["stages"][0]["objective"] = part
        second = {k: v for k, v in pairs_recipe(seed=1)["stages"][0].items() if k not in ("init", "tokenizer")}
        raw["stages"].append(second | {"name": "second", "objective": part})
        return raw
    raw = tiny_recipe(write_corpus(folder / "a.jsonl"), steps=6, save_every=2)
    first = raw["stages"][0]
    if room == "mix":
        paths = [first["data"]["source"]["path"], str(write_corpus(folder / "b.jsonl", seed=1))]
        first["data"] |= {
            "source": [
                {"type": "files", "path": path, "label": label} for path, label in zip(paths, "ab", strict=True)
            ],
            "curate": [{"type": "model-loss", "model": str(MODEL), "length": 16, "batch_size": 2, "hard": 5.0}],
            "mix": part,
        }
        return raw
    field = {"objectives": "objective", "trainable": "trainable", "gradients": "gradients"}.get(room, "penalties")
    if room == "objectives":
        first["objective"] = part
        first["init"] = TINY_GPT2 if part["type"] == "causal" else TINY_BERT
        if parts(room)[name].head in ("speech", "ctc"):  # type: ignore[attr-defined]
            first |= {"init": TINY_SPEECH, "tokenizer": {"characters": 16}}
            first["data"] |= {"source": {"type": "tones", "size": 20}, "packing": "rows"}
            other = {k: v for k, v in json.loads(json.dumps(first)).items() if k not in ("init", "tokenizer")}
            other["data"]["source"]["seed"] = 1
            raw["stages"].append(other | {"name": "second"})
            return raw
        if "rows" in parts(room)[name].packings:  # type: ignore[attr-defined]
            first["objective"] |= {"length": 16}
            first["data"] |= {"packing": "rows", "rewrite": [{"type": "pair", "template": "{text} ({id})"}]}
        elif parts(room)[name].packings:  # type: ignore[attr-defined]
            first["data"]["packing"] = parts(room)[name].packings[0]  # type: ignore[attr-defined]
    else:
        first["train"][field] = [part] if room == "penalties" else part
        first["tokenizer"] = {"load": str(MODEL)}
    second = json.loads(json.dumps({k: v for k, v in first.items() if k not in ("init", "tokenizer")}))
    second["data"]["source"]["path"] = str(write_corpus(folder / "b.jsonl", seed=1))
    raw["stages"].append(second | {"name": "second"})
    return raw
