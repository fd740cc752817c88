"""How fast is warmstart's loop, next to a loop written by hand and next to the Hugging Face Trainer?

    python benchmarks/throughput.py                      # about three minutes on two cores
    python benchmarks/throughput.py --blocks 8 --batch 4 --without compiled   # under a minute
    python benchmarks/throughput.py --shape tiny --bare-compiled              # all shapes' columns, on a CPU
    python benchmarks/throughput.py --shape gpt2-124m --bare-compiled         # on an accelerator, bf16, with MFU
    python benchmarks/throughput.py --shape llama-1b --only compiled bare-compiled

The same model, data, batch size, optimizer and number format several times, each in a process of its own:

    bare           a training loop written by hand in plain PyTorch
    bare-compiled  the same, model and loss compiled together (with `--bare-compiled`)
    warmstart      `warmstart.train.loop.Training.run` as recipes use it (FLOPs counted, metrics written)
    compiled       the same with `train.compile: true`
    hf-trainer     `transformers.Trainer` with the fastest settings it has for this case (`--hf-compiled`: compiled too)

They take turns: one runs a short block of steps while the others wait on a pipe, in an order drawn anew each round.
A machine whose speed drifts (shared cores, heat) slows all members of a round alike, so only ratios *within* a round
are used: the answer is their geometric mean without the fifth of the rounds at each end, with a bootstrap interval.
Many short turns beat few long ones: the drift inside a round is the noise that is left. The price: absolute tokens per
second mean little here. Beside the clock's ratios stand those of CPU time (only on a CPU): other people's processes
disturb them much less, and with `--threads 1` no waiting thread counts as work.

MFU (model FLOPs utilisation) is the FLOPs that the model's definition asks for in a step, forward and backward, over
the seconds of the median turn and the device's peak: `--peak`, or of a known device its data sheet's (`PEAKS`). Nothing
that is computed twice counts twice. Every contestant keeps its memory while others run: where that is too
much, run pairs with `--only`.

The last line is JSON: {"vs_bare": warmstart / bare, "compiled_vs_bare": ..., "vs_hf_trainer": ...}; above 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ENDLESS = 10**9
CONTESTANTS = ("bare", "warmstart", "compiled", "hf-trainer", "hf-trainer-compiled", "bare-compiled")
BY_DEFAULT = CONTESTANTS[:4]
GPU: dict[str, Any] = {"device": "cuda", "precision": "bf16", "documents": "joined", "steps": 10, "blocks": 20}
SHAPES: dict[str, dict[str, Any]] = {  # options; what is given on the command line goes on top
    "gpt2-124m": GPU
    | {"like": "gpt2", "hidden": 768, "layers": 12, "heads": 12, "length": 1024, "batch": 32}
    | {"model_vocabulary": 50257},
    "llama-1b": GPU  # Llama 3.2 1B
    | {"like": "llama", "hidden": 2048, "layers": 16, "heads": 32, "length": 2048, "batch": 8}
    | {"kv_heads": 8, "intermediate": 8192, "model_vocabulary": 128256, "tied": True},
    "tiny": {"like": "llama", "hidden": 64, "layers": 2, "heads": 4, "length": 64, "batch": 8, "blocks": 8},
}
PEAKS = {  # bf16 FLOP/s without sparsity, NVIDIA's data sheets; the first name that is found in the device's
    "B200": 2250e12,
    "H200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165.2e12,
}
LOG_EVERY = 10
Seconds = dict[str, list[float]]  # contestant -> seconds of each round


def main() -> None:
    args = arguments()
    folder = Path(tempfile.mkdtemp(prefix="warmstart-throughput-"))
    os.environ.setdefault("WARMSTART_CACHE", str(folder / "cache"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        wall, cpu, phases = race(args, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(args, wall, cpu, phases)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options, of the command line or as given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="sizes, number format, device and turns, all at once")
    parser.add_argument("--like", choices=["gpt2", "llama"], default="gpt2")
    parser.add_argument("--hidden", type=int, default=128, help="width of the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=None, help="of Llama; default: half of the heads")
    parser.add_argument("--intermediate", type=int, default=None, help="of Llama; default: three times the width")
    parser.add_argument("--tied", action="store_true", help="Llama's output layer is its embedding")
    parser.add_argument("--length", type=int, default=128, help="tokens per block of text")
    parser.add_argument("--batch", type=int, default=16, help="blocks of text per step")
    parser.add_argument("--vocabulary", type=int, default=2048, help="of the tokenizer")
    parser.add_argument("--model-vocabulary", type=int, default=None, help="of the model; default: the tokenizer's")
    parser.add_argument("--documents", choices=["isolated", "joined"], default="isolated")
    parser.add_argument("--steps", type=int, default=2, help="timed steps per turn")
    parser.add_argument("--blocks", type=int, default=50, help="turns of each contestant")
    parser.add_argument("--threads", type=int, default=None, help="threads of PyTorch; default: its own choice")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--without", choices=CONTESTANTS[1:], action="append", default=[])
    parser.add_argument("--only", choices=CONTESTANTS, nargs="+", help="these, and no others")
    parser.add_argument("--hf-compiled", action="store_true", help="also the Trainer with its torch_compile")
    parser.add_argument("--bare-compiled", action="store_true", help="also the hand-written loop, compiled")
    parser.add_argument(
        "--peak", type=float, default=None, help="the device's FLOP/s, for MFU; default: a data sheet's"
    )
    shape = parser.parse_known_args(given)[0].shape
    parser.set_defaults(**SHAPES.get(shape, {}))
    args = parser.parse_args(given)
    asked = {"hf-trainer-compiled": args.hf_compiled, "bare-compiled": args.bare_compiled}
    wanted = args.only or [name for name in CONTESTANTS if name in BY_DEFAULT or asked.get(name)]
    args.contestants = [name for name in wanted if name not in args.without]
    return args


# ---- taking turns ---------------------------------------------------------------------------------------------------


class Turns:
    """A contestant's side of the pipe: calls `tick` before each step, and is held there while others run."""

    def __init__(self, pipe: Connection, synchronize: Callable[[], None]) -> None:
        self.pipe, self.synchronize = pipe, synchronize
        self.phases: dict[str, float] = defaultdict(float)
        self._left = self._steps = 0
        self._began: float | None = None
        self._began_cpu = 0.0

    def tick(self) -> None:
        if self._left == 0:
            self.synchronize()
            if self._began is not None:
                wall, cpu = time.perf_counter() - self._began, time.process_time() - self._began_cpu
                self.pipe.send((wall, cpu, dict(self.phases)))
            self._steps = self.pipe.recv()  # waits here
            if self._steps is None:
                raise SystemExit(0)
            self._left = self._steps + 1  # the first step after a wait brings data back into the caches: not timed
            self._began = None
        elif self._left == self._steps:
            self.synchronize()
            self.phases.clear()
            self._began, self._began_cpu = time.perf_counter(), time.process_time()
        self._left -= 1

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to `phases[name]`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.phases[name] += time.perf_counter() - began

        return call


def race(args: argparse.Namespace, folder: Path) -> tuple[Seconds, Seconds, dict[str, float]]:
    """Wall and CPU seconds of every contestant in every round, and where warmstart's own time went."""
    # One server imports everything once and forks the contestants before any thread or GPU context exists.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers.trainer", "warmstart.train.loop", "warmstart.data.prepare"])
    first = context.Process(target=prepared, args=(args,))
    first.start()
    first.join()  # the contestants read its work from the cache
    if first.exitcode:
        raise SystemExit("the text could not be prepared (see above)")
    pipes, children = {}, {}
    for name in args.contestants:
        pipes[name], theirs = context.Pipe()
        child = context.Process(target=contestant, args=(name, args, folder, theirs), name=name, daemon=True)
        child.start()
        theirs.close()
        children[name] = child
    wall: Seconds = {name: [] for name in args.contestants}
    cpu: Seconds = {name: [] for name in args.contestants}
    phases: dict[str, float] = defaultdict(float)
    draw = random.Random(0)
    for number in range(args.blocks + 1):
        order = draw.sample(args.contestants, len(args.contestants))
        for name in order:
            took, used, parts = turn(pipes[name], children[name], args.steps)
            if number == 0:  # compiles, measures FLOPs, fills caches
                print(f"{name} is warm", flush=True)
                continue
            wall[name].append(took)
            cpu[name].append(used)
            if name == "warmstart":
                phases["everything"] += took
                for part, value in parts.items():
                    phases[part] += value
    for pipe in pipes.values():
        pipe.send(None)
    for child in children.values():
        child.join(timeout=10)
    return wall, cpu, phases


def turn(pipe: Connection, child: BaseProcess, steps: int) -> tuple[float, float, dict[str, float]]:
    """One block of steps of one contestant: wall seconds, CPU seconds, and the seconds of its phases."""
    try:
        pipe.send(steps)
        took, used, parts = pipe.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        child.join(timeout=10)
        why = (
            f"was killed by signal {-child.exitcode}"
            if (child.exitcode or 0) < 0
            else f"stopped with exit code {child.exitcode} (see above)"
        )
        raise SystemExit(f"{child.name} {why}; leave it out with --without {child.name}") from None
    return took, used, parts


def contestant(name: str, args: argparse.Namespace, folder: Path, pipe: Connection) -> None:
    """The body of a contestant's process."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    cuda = args.device != "cpu" and torch.cuda.is_available()
    turns = Turns(pipe, torch.cuda.synchronize if cuda else lambda: None)
    own = folder / name
    own.mkdir()
    run = {"warmstart": run_warmstart, "compiled": run_warmstart, "bare": run_bare, "bare-compiled": run_bare}.get(
        name, run_trainer
    )
    try:
        run(args, own, turns, compiled=name.endswith("compiled"))
    except Exception:
        traceback.print_exc()
        os._exit(1)


# ---- the same for all -----------------------------------------------------------------------------------------------


def stage(args: argparse.Namespace, compiled: bool = False) -> Any:
    from warmstart.recipe_stage import Stage

    if args.like == "gpt2":
        size = {"n_embd": args.hidden, "n_layer": args.layers, "n_head": args.heads, "n_positions": args.length}
        size |= {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    else:
        inner, kv_heads = args.intermediate or 3 * args.hidden, args.kv_heads or max(1, args.heads // 2)
        size = {"hidden_size": args.hidden, "intermediate_size": inner, "num_hidden_layers": args.layers}
        size |= {"num_attention_heads": args.heads, "num_key_value_heads": kv_heads, "tie_word_embeddings": args.tied}
        size |= {"max_position_embeddings": args.length}
    if args.model_vocabulary:
        size["vocab_size"] = args.model_vocabulary
    return Stage.model_validate(
        {
            "init": {"like": args.like} | size,
            "tokenizer": {"train": args.vocabulary},
            "data": {
                "source": "python-stdlib",
                "length": args.length,
                "documents": args.documents,
                "max_documents": 300,
            },
            "budget": {"steps": ENDLESS},
            "evaluate": {"every": ENDLESS, "evaluators": []},
            "train": {
                "batch_size": args.batch,
                "schedule": "constant",
                "precision": args.precision,
                "device": args.device,
                "compile": compiled,
                "save_every": ENDLESS,
                "log_every": LOG_EVERY,
                "trackers": [],
            },
        }
    )


def prepared(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Tokenizer, blocks of tokens, and a new model: alike for every contestant."""
    from warmstart.data.prepare import prepare
    from warmstart.models.build import configuration, new_model
    from warmstart.models.tokenizer import tokenizer_for

    form = stage(args)
    tokenizer = tokenizer_for(form.tokenizer, form.data, "causal")
    data = prepare(form.data, tokenizer)
    model = new_model(configuration(form.init.like, form.init.settings, tokenizer), "causal", 0)
    return tokenizer, data, model.train()


def rows_as_tensors(data: Any) -> tuple[Any, Any, Any]:
    """All training blocks in memory: tokens, positions, targets; int64 (blocks, length)."""
    import numpy as np

    from warmstart.objectives.causal import Causal

    blocks = data.train[0]
    batch = Causal().collate([blocks[n] for n in range(len(blocks))], None, np.random.default_rng(0))
    return batch["input_ids"], batch["position_ids"], batch["labels"]


# ---- the contestants ------------------------------------------------------------------------------------------------


def run_bare(args: argparse.Namespace, folder: Path, turns: Turns, compiled: bool) -> None:
    """What one writes by hand: everything in memory, nothing counted, nothing saved, the loss read now and then."""
    import torch
    from torch.nn.functional import cross_entropy

    from warmstart.train.precision import resolve_device

    _, data, model = prepared(args)
    device = resolve_device(args.device)
    model.to(device)
    tokens, positions, targets = (tensor.to(device) for tensor in rows_as_tensors(data))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    amp = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16")

    def loss_of(wanted: Any, **inputs: Any) -> Any:
        logits = model(**inputs).logits
        return cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100)

    if compiled:
        loss_of = torch.compile(loss_of, dynamic=False)
    for step in range(ENDLESS):
        turns.tick()
        rows = torch.randint(len(tokens), (args.batch,), device=device)
        inputs = {"input_ids": tokens[rows], "use_cache": False}
        if args.documents == "isolated":
            inputs["position_ids"] = positions[rows]  # restarting positions keep documents apart
        with amp:
            loss = loss_of(targets[rows], **inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % LOG_EVERY == 0:
            loss.item()


def run_warmstart(args: argparse.Namespace, folder: Path, turns: Turns, compiled: bool) -> None:
    """The loop that recipes run, untouched but for the tick before each step and a clock around its parts."""
    from warmstart.train.loop import Training

    class Paced(Training):
        def step(self) -> Any:
            turns.tick()
            return super().step()

    tokenizer, data, model = prepared(args)
    training = Paced(model, tokenizer, stage(args, compiled), data, seed=0, number=0, folder=folder)
    for part in ("next_rows", "collate", "cost", "backward", "clip"):
        setattr(training, part, turns.timed(part, getattr(training, part)))
    optimizer: Any = training.optimizer
    optimizer.step = turns.timed("optimizer", optimizer.step)
    training.run()


def run_trainer(args: argparse.Namespace, folder: Path, turns: Turns, compiled: bool) -> None:
    """The Hugging Face Trainer: fused AdamW, rows ready in memory, no trackers, no checks of each step's loss."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    from warmstart.train.precision import resolve_device

    class Tick(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.tick()

    _, data, model = prepared(args)
    tokens, positions, targets = rows_as_tensors(data)
    labels = targets.roll(1, dims=1)  # the model shifts labels itself
    labels[:, 0] = -100
    rows = [
        {"input_ids": t, "labels": y} | ({"position_ids": p} if args.documents == "isolated" else {})
        for t, p, y in zip(tokens, positions, labels, strict=True)
    ]
    model.config.loss_type = "ForCausalLM"  # what it computes anyway, but without a warning
    cpu = resolve_device(args.device).type == "cpu"
    settings = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=args.batch,
        max_steps=ENDLESS,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        weight_decay=0.1,
        max_grad_norm=1.0,
        bf16=args.precision == "bf16",
        use_cpu=cpu,
        torch_compile=compiled,
        dataloader_pin_memory=not cpu,
        remove_unused_columns=False,
        logging_steps=LOG_EVERY,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=settings, train_dataset=rows, callbacks=[Tick()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()


# ---- the result -----------------------------------------------------------------------------------------------------


def ratio(seconds: Seconds, fast: str, slow: str) -> tuple[float, float, float] | None:
    """Speed(fast) / speed(slow) over all rounds, and its 95 % bootstrap interval."""
    if fast not in seconds or slow not in seconds:
        return None
    each = [math.log(b / a) for a, b in zip(seconds[fast], seconds[slow], strict=True)]
    draw = random.Random(0)
    again = sorted(_trimmed_mean(draw.choices(each, k=len(each))) for _ in range(2000))
    return math.exp(_trimmed_mean(each)), math.exp(again[50]), math.exp(again[1949])


def _trimmed_mean(values: list[float]) -> float:
    """The mean without the lowest and the highest fifth: rounds in which the machine did something else."""
    cut = len(values) // 5
    return statistics.mean(sorted(values)[cut : len(values) - cut])


def _interval(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.3f} ({found[1]:.3f} .. {found[2]:.3f})"


def flops_of_step(args: argparse.Namespace) -> float:
    """What the model's definition asks for in a step: matrix products, forward and backward. No memory is taken."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from warmstart.train.compute import FlopMeter

    settings = {"vocab_size": args.vocabulary} | stage(args).init.settings
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(args.like, use_cache=False, **settings))
        row = torch.zeros(1, args.length, dtype=torch.long)
        mask = torch.zeros(1, 1, args.length, args.length)  # a mask that is given is not looked into
        return args.batch * FlopMeter().measure(
            ("row",), lambda: model(input_ids=row, attention_mask=mask).logits.sum()
        )


def peak_of(args: argparse.Namespace) -> tuple[str, float | None]:
    """The device's name and its FLOP/s, as given or by its data sheet; None where neither is known."""
    import torch

    if args.device == "cpu" or not torch.cuda.is_available():
        return "cpu", args.peak
    name = torch.cuda.get_device_name()
    known = next((peak for part, peak in PEAKS.items() if part in name), None) if args.precision == "bf16" else None
    return name, args.peak or known


def report(args: argparse.Namespace, wall: Seconds, cpu: Seconds, phases: dict[str, float]) -> None:
    tokens = args.steps * args.batch * args.length
    flops, (device, peak) = flops_of_step(args), peak_of(args)
    print(
        f"\n{args.like}, width {args.hidden}, {args.layers} layers; {args.batch} x {args.length} tokens a step; ",
        end="",
    )
    print(f"{args.blocks} rounds of {args.steps} steps; {args.device}, {args.precision}, {args.documents} documents")
    print(f"{flops:.4g} FLOPs a step; {device}, peak {f'{peak:.4g} FLOP/s' if peak else 'unknown (give --peak)'}")
    print(f"{'':<22}{'tokens/s (median)':>18}{'slowest .. fastest':>24}{'MFU':>8}")
    for name, each in wall.items():
        span = f"{tokens / max(each):,.0f} .. {tokens / min(each):,.0f}"
        mfu = f"{flops * args.steps / statistics.median(each) / peak:.1%}" if peak else "-"
        print(f"{name:<22}{tokens / statistics.median(each):>18,.0f}{span:>24}{mfu:>8}")
    pairs = {
        "vs_bare": ("warmstart", "bare"),
        "compiled_vs_bare": ("compiled", "bare"),
        "vs_hf_trainer": ("warmstart", "hf-trainer"),
        "compiled_vs_hf_trainer": ("compiled", "hf-trainer"),
        "compiled_vs_bare_compiled": ("compiled", "bare-compiled"),
        "compiled_vs_hf_trainer_compiled": ("compiled", "hf-trainer-compiled"),
    }
    print(f"\n{'ratio of speeds':<34}{'by the clock':>14} (95 % interval)   by CPU time (95 % interval)")
    values: dict[str, float | None] = {}
    for key, (fast, slow) in pairs.items():
        found, by_cpu = ratio(wall, fast, slow), ratio(cpu, fast, slow)
        if found and by_cpu:
            print(f"{fast + ' / ' + slow:<34}{_interval(found):>32}{_interval(by_cpu):>30}")
        if found or all(name in BY_DEFAULT for name in (fast, slow)):
            values[key] = round(found[0], 4) if found else None
    whole = phases.pop("everything", 0.0)
    if whole:
        phases["the rest"] = whole - sum(phases.values())
        shares = ", ".join(f"{name} {value / whole:.2%}" for name, value in phases.items())
        print(f"\nwhere warmstart's time goes: {shares}")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
