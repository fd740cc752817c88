"""How many real tokens per second without padding, with less of it, and with all of it?

    python benchmarks/unpadded.py                      # paragraphs of the standard library, up to 512 tokens
    python benchmarks/unpadded.py --length 128         # cut at 128: less padding
    python benchmarks/unpadded.py --packing concat     # full blocks, documents apart: flat against a dense mask

The same encoder, corpus, batch size and optimizer three times, as recipes run them (`train.layout`): `padded` to the
block's length, `bucketed` (rows of similar length together, padded to the longest) and `unpadded`. They take turns in
one process, one step each, in an order drawn anew each round; only ratios of real tokens per second within a round are
used: their geometric mean without the fifth at each end, and a bootstrap interval, by the clock and by CPU time (which
other people's processes disturb less).

The last line is JSON: {"unpadded_vs_padded": ..., "unpadded_vs_bucketed": ..., "bucketed_vs_padded": ...,
"padding": ...}.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from throughput import ENDLESS, ratio

LAYOUTS = ("padded", "bucketed", "unpadded")


def main() -> None:
    args = arguments()
    folder = Path(tempfile.mkdtemp(prefix="warmstart-unpadded-"))
    os.environ.setdefault("WARMSTART_CACHE", str(folder / "cache"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        race(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", choices=["bert", "roberta", "modernbert"], default="bert")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=512, help="most tokens of a text")
    parser.add_argument("--batch", type=int, default=32, help="texts per step")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--packing", default="single")
    parser.add_argument("--shortest", type=int, default=40, help="characters of the shortest paragraph")
    parser.add_argument("--documents", type=int, default=300, help="files of the standard library that are read")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=None)
    return parser.parse_args()


def stage(args: argparse.Namespace, layout: str) -> Any:
    from warmstart.recipe_stage import Stage

    size = {"hidden_size": args.hidden, "num_hidden_layers": args.layers, "num_attention_heads": args.hidden // 64}
    size |= {"intermediate_size": 4 * args.hidden, "max_position_embeddings": args.length + 2}
    return Stage.model_validate(
        {
            "init": {"like": args.like} | size,
            "tokenizer": {"train": args.vocabulary},
            "objective": "masked",
            "data": {
                "source": "python-stdlib",
                "rewrite": [{"type": "paragraphs", "shortest": args.shortest}],
                "length": args.length,
                "packing": args.packing,
                "max_documents": args.documents,
            },
            "budget": {"steps": ENDLESS},
            "evaluate": {"every": ENDLESS, "evaluators": []},
            "train": {"batch_size": args.batch, "layout": layout, "device": "cpu", "precision": "fp32", "trackers": []},
        }
    )


def race(args: argparse.Namespace, folder: Path) -> None:
    import torch

    from warmstart.data.prepare import prepare
    from warmstart.models.build import configuration, new_model
    from warmstart.models.tokenizer import tokenizer_for
    from warmstart.train.loop import Training
    from warmstart.train.memory import keep_freed_memory

    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()
    form = stage(args, "padded")
    tokenizer = tokenizer_for(form.tokenizer, form.data, "masked")
    data = prepare(form.data, tokenizer)
    loops = {}
    for layout in LAYOUTS:
        model = new_model(configuration(form.init.like, form.init.settings, tokenizer), "masked", 0).train()
        loops[layout] = Training(model, tokenizer, stage(args, layout), data, seed=0, number=0, folder=folder)
    blocks = data.train[0]
    lengths = [blocks.real_tokens(row) for row in range(len(blocks))]
    padding = 1 - sum(lengths) / (len(lengths) * args.length)
    quarters = statistics.quantiles(lengths, n=4)
    print(
        f"{len(lengths):,} rows of at most {args.length} tokens: mean {statistics.mean(lengths):.0f}, quartiles "
        f"{quarters[0]:.0f}, {quarters[1]:.0f}, {quarters[2]:.0f}; padding {padding:.1%} of a padded batch",
        flush=True,
    )
    wall: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    cpu: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    draw = random.Random(0)
    for number in range(args.rounds + 1):
        for layout in draw.sample(LAYOUTS, len(LAYOUTS)):
            loop = loops[layout]
            before, began, began_cpu = loop.counts.real_tokens, time.perf_counter(), time.process_time()
            loop.step()
            took, used = time.perf_counter() - began, time.process_time() - began_cpu
            tokens = loop.counts.real_tokens - before
            if number:  # the first round measures FLOPs and fills caches
                wall[layout].append(took / tokens)
                cpu[layout].append(used / tokens)
    report(args, loops, wall, cpu, padding)


def report(
    args: argparse.Namespace,
    loops: dict[str, Any],
    wall: dict[str, list[float]],
    cpu: dict[str, list[float]],
    padding: float,
) -> None:
    print(f"\n{args.like}, width {args.hidden}, {args.layers} layers, {args.batch} rows a step, {args.rounds} rounds")
    print(
        f"{'':<12}{'real tokens/s: median (slowest .. fastest)':>44}{'real / computed':>18}{'FLOPs a real token':>20}"
    )
    for layout, loop in loops.items():
        seconds = wall[layout]
        median, slow, fast = (1 / value for value in (statistics.median(seconds), max(seconds), min(seconds)))
        counts = loop.counts
        print(
            f"{layout:<12}{f'{median:,.0f} ({slow:,.0f} .. {fast:,.0f})':>44}"
            f"{counts.real_tokens / counts.tokens:>18.1%}{counts.flops / counts.real_tokens:>20.3g}"
        )
    print(f"\n{'ratio of real tokens/s':<24}{'by the clock (95 % interval)':>34}{'by CPU time (95 % interval)':>34}")
    values: dict[str, float] = {}
    for fast, slow in (("unpadded", "padded"), ("unpadded", "bucketed"), ("bucketed", "padded")):
        shown = []
        for times in (wall, cpu):
            found = ratio(times, fast, slow)
            assert found is not None
            shown.append(f"{found[0]:.2f} ({found[1]:.2f} .. {found[2]:.2f})")
            values.setdefault(f"{fast}_vs_{slow}", round(found[0], 4))
        print(f"{f'{fast} / {slow}':<24}{shown[0]:>34}{shown[1]:>34}")
    print(json.dumps(values | {"padding": round(padding, 4)}))


if __name__ == "__main__":
    main()
