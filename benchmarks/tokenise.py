"""How fast do documents become packed blocks of tokens, next to `datasets.map` as the plain Hugging Face example does
it?

    python benchmarks/tokenise.py                 # about three minutes on two cores
    python benchmarks/tokenise.py --rounds 3

The same JSON Lines file (the standard library's sources, 10 MB), tokenizer and block length, from the file to blocks
that a loop can read, each time with an empty cache:

    warmstart      `prepare` with its defaults: every row checked, exact duplicates dropped, split by hash, rows kept as
                   Parquet, documents' boundaries and positions kept, blocks written and checksummed
    without-dedup  the same with `curate: []`
    datasets       `load_dataset("json")`, `map(tokenize)`, `map(group_texts)`: what `run_clm.py` does
    datasets-maps  its two maps alone, the time of `load_dataset` left out

They take turns in an order drawn anew each round, and ratios are taken inside a round: a machine whose speed drifts
slows all members of a round alike. The answer is the geometric mean with a bootstrap interval over rounds. All run on
one process; the tokenizer's own threads are on or off for all alike (`TOKENIZERS_PARALLELISM`).

The last line is JSON: {"vs_datasets": warmstart's speed / datasets', ...}; above 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=8192)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory(prefix="warmstart-tokenise-") as scratch:
        os.environ["WARMSTART_CACHE"] = f"{scratch}/cache"
        os.environ["HF_DATASETS_CACHE"] = f"{scratch}/datasets"
        race(Path(scratch), args)


def race(scratch: Path, args: argparse.Namespace) -> None:
    import datasets

    from warmstart.data.sources.python_stdlib import PythonStdlib
    from warmstart.models.tokenizer import train_tokenizer

    datasets.disable_progress_bars()
    texts = [row["text"] for row in PythonStdlib().rows()]
    file = scratch / "corpus.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    tokenizer = train_tokenizer(texts, args.vocabulary, "causal")
    print(f"{len(texts)} documents, {megabytes:.1f} MB, blocks of {args.length}, vocabulary {len(tokenizer):,}")
    contestants = {
        "warmstart": lambda folder: ours(file, tokenizer, args.length, folder, ["exact-duplicates"]),
        "without-dedup": lambda folder: ours(file, tokenizer, args.length, folder, []),
        "datasets": lambda folder: theirs(file, tokenizer, args.length, folder),
    }
    rounds: list[dict[str, float]] = []
    draw = random.Random(0)
    for number in range(args.rounds + 1):
        seconds: dict[str, float] = {}
        for name in draw.sample(sorted(contestants), len(contestants)):
            folder = scratch / f"{name}-{number}"
            seconds |= contestants[name](folder)
            shutil.rmtree(folder, ignore_errors=True)
        if number:  # the first round warms up
            rounds.append(seconds)
            print(f"round {number}: " + ", ".join(f"{name} {megabytes / s:.2f} MB/s" for name, s in seconds.items()))
    answer = {}
    for ours_name, other in (("warmstart", "datasets"), ("warmstart", "datasets-maps"), ("without-dedup", "datasets")):
        ratios = [math.log(found[other] / found[ours_name]) for found in rounds]
        mean, low, high = interval(ratios)
        print(f"{ours_name} / {other}: {mean:.3f} ({low:.3f} .. {high:.3f})")
        answer[f"{ours_name}_vs_{other}"] = round(mean, 3)
    print(json.dumps(answer))


def ours(file: Path, tokenizer: Any, length: int, folder: Path, curate: list[str]) -> dict[str, float]:
    from warmstart.data.prepare import prepare
    from warmstart.recipe_data import Data

    data = Data.model_validate({"source": {"type": "files", "path": str(file)}, "curate": curate, "length": length})
    began = time.perf_counter()
    prepared = prepare(data, tokenizer, cache_dir=folder)
    sum(int(prepared.train[0][row]["tokens"][0]) for row in range(0, len(prepared.train[0]), 100))
    return {"warmstart" if curate else "without-dedup": time.perf_counter() - began}


def theirs(file: Path, tokenizer: Any, length: int, folder: Path) -> dict[str, float]:
    import datasets

    end = tokenizer.eos_token_id

    def tokenize(rows: dict[str, list[str]]) -> dict[str, Any]:
        found = tokenizer(rows["text"])
        return {name: [[*ids, end if name == "input_ids" else 1] for ids in values] for name, values in found.items()}

    def group_texts(rows: dict[str, list[list[int]]]) -> dict[str, Any]:
        joined = {name: list(chain(*values)) for name, values in rows.items()}
        total = len(next(iter(joined.values()))) // length * length
        result = {name: [v[i : i + length] for i in range(0, total, length)] for name, v in joined.items()}
        result["labels"] = result["input_ids"].copy()
        return result

    began = time.perf_counter()
    raw = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder))
    loaded = time.perf_counter()
    tokens = raw.map(tokenize, batched=True, remove_columns=raw.column_names, cache_file_name=str(folder / "t.arrow"))
    blocks = tokens.map(group_texts, batched=True, cache_file_name=str(folder / "b.arrow"))
    sum(blocks[row]["input_ids"][0] for row in range(0, len(blocks), 100))
    done = time.perf_counter()
    return {"datasets": done - began, "datasets-maps": done - loaded}


def interval(logs: list[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % bootstrap interval, from logarithms of ratios."""
    draw = random.Random(1)
    means = sorted(sum(draw.choices(logs, k=len(logs))) / len(logs) for _ in range(4000))
    return math.exp(sum(logs) / len(logs)), math.exp(means[100]), math.exp(means[3899])


if __name__ == "__main__":
    main()
