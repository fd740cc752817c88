"""What this machine does in a second, as far as planning a large training asks for it.

    python benchmarks/rates.py                    # a minute or two; --write puts the numbers into benchmarks/rates.json

    save      bytes of a state written by `save_state`: safetensors, xxh3, flushed to the disk
    collate   tokens drawn, read from mapped blocks and collated for a causal step: the rows of the whole step
    grow      bytes of a grown checkpoint, made tensor by tensor and written (`exact`, without the check)

Each is measured several times, by the clock and by CPU time (on a machine that others use too, the clock shows their
work); what is printed is the median and the slowest and fastest round. `tokenise` comes from
benchmarks/memory.py, which takes ten minutes: 206,699,695 tokens in 584 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("rates.json")
TOKENISED = 206_699_695 / 584
MB = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=float, default=200.0, help="MB of the state and of the grown checkpoint")
    parser.add_argument("--tokens", type=int, default=2**18, help="tokens of a collated step, in blocks of 4096")
    parser.add_argument("--write", action="store_true", help="put the numbers into rates.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="warmstart-rates-") as scratch:
        os.environ["WARMSTART_CACHE"] = f"{scratch}/cache"
        rounds = {
            "save": save(Path(scratch), args),
            "collate": collate(Path(scratch), args),
            "grow": grow(Path(scratch), args),
        }
    rounds["tokenise"] = [(TOKENISED, TOKENISED)]
    found: dict[str, Any] = {}
    for name, each in rounds.items():
        unit = "M tokens/s" if name in ("collate", "tokenise") else "MB/s"
        words = []
        for place, by in enumerate(("clock", "cpu")):
            rates = [one[place] for one in each]
            found.setdefault(name, {})[by] = {
                "median": statistics.median(rates),
                "slowest": min(rates),
                "fastest": max(rates),
            }
            words.append(f"{statistics.median(rates) / MB:.2f} ({min(rates) / MB:.2f} .. {max(rates) / MB:.2f})")
        print(f"{name:<10}{unit:<11} by the clock {words[0]}, by CPU time {words[1]}, {len(each)} rounds")
    if args.write:
        FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


Rounds = list[tuple[float, float]]


def timed(rounds: int, amount: float, work: Callable[[int], Any]) -> Rounds:
    """Amount a second of each round, by the clock and by this process's CPU time; one round before them warms up."""
    found = []
    for number in range(rounds + 1):
        began, began_cpu = time.perf_counter(), time.process_time()
        work(number)
        found.append((amount / (time.perf_counter() - began), amount / (time.process_time() - began_cpu)))
    return found[1:]


def save(scratch: Path, args: argparse.Namespace) -> Rounds:
    import torch

    from warmstart.train.checkpoint import save_state

    weights = torch.randn(int(args.size * MB / 12))
    tensors = {"model": {"w": weights}, "optimizer": {"w|exp_avg": weights, "w|exp_avg_sq": weights.clone()}}
    size = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    return timed(args.rounds, size, lambda number: save_state(scratch / "state", number, tensors, {}))


def collate(scratch: Path, args: argparse.Namespace) -> Rounds:
    """Rows of mapped blocks of a random source, in a shuffled order, through the causal objective's `collate`."""
    import numpy as np

    from warmstart.data.batch import Tokens
    from warmstart.data.batch.blocks import Blocks, write_blocks
    from warmstart.data.batch.concat import Concat
    from warmstart.data.mix import Stock
    from warmstart.data.mix.proportional import Proportional
    from warmstart.objectives.causal import Causal

    length, rows = 4096, args.tokens // 4096
    draw = np.random.default_rng(0)
    count = rows * (args.rounds + 1)
    documents = (Tokens(draw.integers(0, 32000, 1000).astype(np.int32)) for _ in range(count * length // 1000 + 1))
    write_blocks(scratch / "train-0", Concat().pack(documents, length, 0), length, 32000)
    blocks, objective = Blocks(scratch / "train-0"), Causal()
    mix = Proportional().start(Stock([len(blocks)], ["random"], [None]), seed=0)

    def step(number: int) -> None:
        chosen = [blocks[row] for _, row in mix.next(rows)]
        objective.collate(chosen, None, np.random.default_rng(number))
        sum(int((row["documents"] >= 0).sum()) for row in chosen)  # the real tokens of the metrics

    return timed(args.rounds, rows * length, step)


def grow(scratch: Path, args: argparse.Namespace) -> Rounds:
    """A Llama of the proportions of Llama 2 7B, grown by 5/4 in width and depth."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from warmstart.surgery.grow import Grow
    from warmstart.surgery.stream import grow_checkpoint

    width = max(128, int((args.size * MB / 2 / 8 / 12.2) ** 0.5) // 128 * 128)  # heads of 32, before and after
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=4,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        vocab_size=2000,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(scratch / "old", max_shard_size="50MB")
    to = {"hidden_size": width * 5 // 4, "num_attention_heads": width * 5 // 4 // 32, "num_hidden_layers": 5}
    settings = Grow(to=to, width="exact", depth="stack")
    sizes: list[int] = []

    def work(number: int) -> None:
        shutil.rmtree(scratch / "new", ignore_errors=True)
        grow_checkpoint(scratch / "old", scratch / "new", settings, check=False)
        sizes.append(sum(file.stat().st_size for file in (scratch / "new").glob("*.safetensors")))

    rounds = timed(args.rounds, 1.0, work)
    return [(sizes[0] * clock, sizes[0] * cpu) for clock, cpu in rounds]


if __name__ == "__main__":
    main()
