"""How much memory does a training step take where the vocabulary is large, next to plain Hugging Face?

    python benchmarks/vocabulary.py              # vocabulary 131,072; 4 x 1,024 tokens; ten minutes of CPU time
    python benchmarks/vocabulary.py --vocabulary 32768 --rounds 1 --only plain chunked

One forward and backward pass of the same model on the same tokens, each in a fresh process, in turns:

    plain         model(input_ids=..., labels=...) and loss.backward()
    chunked       `Causal().loss_without_logits`, as warmstart's loop calls it: the logits never exist in full
    checkpointed  the same with `train.activation_checkpointing`

Memory is what PyTorch's allocator hands out, as its profiler records every allocation and release: the largest sum at
any moment of the pass, with the weights, gradients included. Beside it stands the growth of the process's resident
memory in its first pass, which has in it what the allocator cannot see (and what the system rounds up). The second
pass is timed, by the clock and by CPU time, which other people's processes disturb less; ratios are taken inside each
round, because the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

CONTESTANTS = ("plain", "chunked", "checkpointed")
Measured = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", default="llama", help="a model type of transformers with Llama's names of sizes")
    parser.add_argument("--vocabulary", type=int, default=131072)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None, help="threads of PyTorch; default: its own choice")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--one", nargs=2, metavar=("CONTESTANT", "PRECISION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args, *args.one)))
        return
    found: dict[tuple[str, str], list[Measured]] = {}
    draw = random.Random(0)
    pairs = [(name, precision) for precision in args.precisions for name in args.only]
    for number in range(args.rounds):
        for pair in draw.sample(pairs, len(pairs)):
            command = [sys.executable, *sys.argv, "--one", *pair]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(pair)} stopped with exit code {done.returncode}:\n{done.stderr[-2000:]}")
            found.setdefault(pair, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {' '.join(pair)}: {found[pair][-1]}", file=sys.stderr, flush=True)
    report(args, found)


def measured(args: argparse.Namespace, name: str, precision: str) -> Measured:
    """Two passes of one contestant, in this process."""
    from warmstart.train.activations import checkpoint_activations

    if args.threads:
        torch.set_num_threads(args.threads)
    model = new_model(args.like, args.vocabulary, args.width, args.layers, args.length)
    tokens = torch.randint(args.vocabulary, (args.rows, args.length), generator=torch.Generator().manual_seed(0))
    if name == "checkpointed":
        checkpoint_activations(model)
    run = pass_of("plain" if name == "plain" else "chunked", model, tokens, precision)
    before = resident()
    loss = run()
    grown = resident() - before
    model.zero_grad(set_to_none=True)
    took: list[float] = []

    def timed() -> None:
        began, began_cpu = time.perf_counter(), time.process_time()
        run()
        took.extend([time.perf_counter() - began, time.process_time() - began_cpu])

    peak = peak_bytes(timed) + sum(p.numel() * p.element_size() for p in model.parameters())
    return {"loss": loss, "peak": peak, "grown": grown, "seconds": took[0], "cpu": took[1]}


def new_model(like: str, vocabulary: int, width: int, layers: int, length: int) -> Any:
    """A causal model with random weights, in training mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 3 * width}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": length}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = AutoConfig.for_model(like, vocab_size=vocabulary, use_cache=False, **ids, **sizes)
    return AutoModelForCausalLM.from_config(config).train()


def pass_of(name: str, model: Any, tokens: torch.Tensor, precision: str) -> Callable[[], float]:
    """A forward and a backward pass; it returns the loss."""
    from warmstart.objectives.causal import Causal

    labels = torch.full_like(tokens, -100)
    labels[:, :-1] = tokens[:, 1:]
    positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
    batch = {"input_ids": tokens, "position_ids": positions, "labels": labels}

    def run() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            if name == "plain":
                output = model(input_ids=tokens, labels=tokens)  # it is held until the end, as by a Trainer's step
                loss = output.loss
            else:
                loss = Causal().loss_without_logits(model, batch).total
        loss.backward()
        return float(loss.detach())

    return run


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that PyTorch's CPU allocator held at one moment of `run()`, beyond what it had before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most


def resident() -> int:
    """The most memory this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report(args: argparse.Namespace, found: dict[tuple[str, str], list[Measured]]) -> None:
    print(f"\n{args.like}, vocabulary {args.vocabulary:,}, width {args.width}, {args.layers} layers;", end=" ")
    print(f"{args.rows} x {args.length} tokens; {args.rounds} rounds; memory in MiB, median (least .. most)\n")
    measures = ("allocated", "resident growth", "seconds", "CPU seconds")
    columns = [name for measure in measures for name in (measure, "of plain")]
    print("| | " + " | ".join(columns) + " | loss |")
    print("|---" * (len(columns) + 2) + "|")
    for (name, precision), each in found.items():
        cells = [f"{name}, {precision}"]
        plain = found.get(("plain", precision), each)
        for key, shown in (("peak", _mebibytes), ("grown", _mebibytes), ("seconds", _seconds), ("cpu", _seconds)):
            values = [one[key] for one in each]
            ratios = [one[key] / other[key] for one, other in zip(each, plain, strict=True)]
            cells += [_spread(values, shown), _spread(ratios, lambda value: f"{value:.3f}")]
        cells.append(f"{each[0]['loss']:.6f}")
        print("| " + " | ".join(cells) + " |")


def _spread(values: list[float], shown: Callable[[float], str]) -> str:
    least, middle, most = (shown(value) for value in (min(values), statistics.median(values), max(values)))
    return middle if least == most else f"{middle} ({least} .. {most})"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.1f}"


if __name__ == "__main__":
    main()
