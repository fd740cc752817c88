"""The tables of docs/scale.md, from the formulas in warmstart/forecast/cluster and the rates in benchmarks/rates.json.

python docs/scale_tables.py            # writes them between their marks; a minute or two
python docs/scale_tables.py --check    # only says whether the page is up to date
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import LlamaConfig
from transformers.utils import logging as transformers_logging

from warmstart.forecast.cluster.activations import Batch, activations
from warmstart.forecast.cluster.communication import exchanged, sent
from warmstart.forecast.cluster.compute import flops_per_token
from warmstart.forecast.cluster.data import bytes_per_token, collate_seconds, prepare_seconds
from warmstart.forecast.cluster.growing import (
    check_bytes,
    check_flops,
    grow_seconds,
    in_memory_bytes,
    streaming_bytes,
)
from warmstart.forecast.cluster.machine import H100, Rates
from warmstart.forecast.cluster.memory import lasting_parts
from warmstart.forecast.cluster.outlook import Outlook, fastest, most_rows
from warmstart.forecast.cluster.saving import (
    best_interval,
    host_bytes,
    lost_hours_a_day,
    lost_share,
    stall_seconds,
    state_bytes,
    time_between_failures,
    write_seconds,
)
from warmstart.forecast.cluster.shape import Shape, shape_of

PAGE = Path(__file__).with_name("scale.md")
MEASURED = json.loads((Path(__file__).parents[1] / "benchmarks/rates.json").read_text(encoding="utf-8"))
RATES = Rates(
    save=MEASURED["save"]["clock"]["median"],
    **{name: MEASURED[name]["cpu"]["median"] for name in ("collate", "grow", "tokenise")},
)
ASSUMED_DISK = replace(RATES, save=1e9)
"""A first process that writes 1 GB a second, checksums included: an assumption."""

ROWS, LENGTH, TOKENS = 1024, 4096, 100e9
GPUS = (8, 32, 128, 512)
MODELS = {
    "7B": LlamaConfig(vocab_size=32000, max_position_embeddings=4096),  # whose defaults are those of Llama 2 7B
    "13B": LlamaConfig(
        vocab_size=32000,
        max_position_embeddings=4096,
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=40,
    ),
}
LIKE = Batch(1, LENGTH, "bf16", shares=True, checkpointing=False, chunked=True, isolated=True)
FAILURES = 50_000 * 3600.0
"""Seconds between failures of one GPU with all that belongs to it. Llama 3's training had 419 unexpected interruptions
in 54 days on 16,384 GPUs (arXiv 2407.21783): one in 50,700 hours of a GPU."""
RESTART = 900.0
"""Seconds to notice a failure and to start again: an assumption."""

Table = list[Sequence[str]]


def main() -> None:
    old = PAGE.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in sys.argv:
        sys.exit(0 if new == old else f"{PAGE} is out of date: python docs/scale_tables.py")
    PAGE.write_text(new, encoding="utf-8")


def filled(page: str) -> str:
    """The page with all tables made anew."""
    transformers_logging.set_verbosity(logging.ERROR)
    for name, make in TABLES.items():
        mark, end = f"<!-- table: {name} -->", "<!-- end of table -->"
        if mark in page:
            text = f"{mark}\n\n{markdown(list(make()))}\n\n{end}"
            page = re.sub(re.escape(mark) + ".*?" + re.escape(end), lambda _, text=text: text, page, flags=re.S)
    return page


def markdown(rows: Table) -> str:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ---- the tables -----------------------------------------------------------------------------------------------------


def sizes() -> Iterator[Sequence[str]]:
    yield "", *MODELS
    shapes = [shape_of(config) for config in MODELS.values()]
    yield "weights", *(f"{shape.weights:,}" for shape in shapes)
    yield "of a block; outside all blocks", *(f"{each(shape)}" for shape in shapes)
    yield "FLOPs of a token (blocks of 4096)", *(f"{flops_per_token(shape, LENGTH):.3g}" for shape in shapes)
    yield (
        "the same with activation checkpointing",
        *(f"{flops_per_token(shape, LENGTH, checkpointing=True):.3g}" for shape in shapes),
    )
    yield (
        "weights, gradients, moments: copies",
        *(gb(16 * shape.weights) for shape in shapes),
    )
    for gpus in GPUS:
        held = [sum(lasting_parts(s, True, gpus).values()) // 3 * 4 for s in shapes]  # gradients as large as weights
        yield f"weights, gradients, moments: {gpus} shares", *(gb(one) for one in held)
    for words, changes in (
        ("activations of a block of 4096 tokens, isolated documents", {}),
        ("the same, joined documents", {"isolated": False}),
        ("the same, isolated, logits in full (they are, without a loss in chunks)", {"chunked": False}),
        ("the same, isolated, checkpointing", {"checkpointing": True}),
    ):
        batch = replace(LIKE, rows=2, **changes)  # type: ignore[arg-type]
        more = [activations(c, replace(batch, rows=4)).peak - activations(c, batch).peak for c in MODELS.values()]
        yield words, *(gb(one / 2) for one in more)
    yield "a saved state", *(gb(sum(state_bytes(shape).values())) for shape in shapes)


def each(shape: Shape) -> str:
    inside = sum(_count(sizes) for sizes in shape.largest_layer)
    return f"{inside / 1e6:.0f} M; {sum(_count(sizes) for sizes in shape.root) / 1e6:.0f} M"


def _count(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def training(name: str) -> Iterator[Sequence[str]]:
    config = MODELS[name]
    shape = shape_of(config)
    chosen = {gpus: fastest(config, LIKE, ROWS, gpus, rates=RATES) for gpus in GPUS}
    yield f"{name}, {ROWS:,} x {LENGTH:,} tokens a step", *(f"{gpus} GPUs" for gpus in GPUS)

    def line(words: str, value):  # type: ignore[no-untyped-def]
        return words, *(value(chosen[gpus]) if chosen[gpus] else "does not fit" for gpus in GPUS)

    yield line("`shard`", lambda o: "always" if o.batch.shares else "never")
    yield line("`activation_checkpointing`", lambda o: "true" if o.batch.checkpointing else "false")
    yield line("`accumulate` (blocks of a micro-batch)", lambda o: f"{o.accumulate} ({o.batch.rows})")
    yield line("memory of a GPU, GB", lambda o: f"{o.memory / 1e9:.1f}")
    yield line("computing, s", lambda o: f"{o.compute:.2f}")
    yield line("exchange, s", lambda o: f"{o.exchange:.2f}")
    yield line(
        "GB that a GPU sends",
        lambda o: f"{sent(exchanged(shape, o.batch, o.processes, o.accumulate), o.processes) / 1e9:.0f}",
    )
    yield line("collating, s", lambda o: f"{o.collate:.2f}")
    yield line("a step, exchange hidden .. not hidden, s", lambda o: f"{o.seconds:.2f} .. {o.seconds_in_turn:.2f}")
    yield line("share of the step that collating takes", lambda o: f"{o.collate / o.seconds:.1%}")
    yield line("100 B tokens, days", lambda o: f"{days(o, o.seconds):.1f} .. {days(o, o.seconds_in_turn):.1f}")
    yield line("tokens a second", lambda o: f"{o.rows * LENGTH / o.seconds:,.0f}")
    yield line(
        "MB a second read, of a node",
        lambda o: f"{o.rows * LENGTH / o.seconds * bytes_per_token(LENGTH, 32000) / 1e6:.1f}",
    )


def days(one: Outlook, seconds: float) -> float:
    return TOKENS / (one.rows * LENGTH) * seconds / 86400


def accumulating() -> Iterator[Sequence[str]]:
    yield "most tokens of a step without accumulating, shares, checkpointing", *(f"{gpus} GPUs" for gpus in GPUS)
    for name, config in MODELS.items():
        most = [most_rows(config, replace(LIKE, checkpointing=True), gpus) for gpus in GPUS]
        yield (
            name,
            *(
                f"{rows * gpus * LENGTH / 1e6:.2f} M ({rows} blocks a GPU)"
                for rows, gpus in zip(most, GPUS, strict=True)
            ),
        )


def saving() -> Iterator[Sequence[str]]:
    yield "", *(f"{name}, {gpus} GPUs" for name in MODELS for gpus in (8, 512))
    rows: dict[str, list[str]] = {}
    for config in MODELS.values():
        shape = shape_of(config)
        for gpus in (8, 512):
            stall = stall_seconds(shape, gpus, H100, shares=True)
            between = time_between_failures(gpus, FAILURES)
            best = best_interval(stall, between)
            slow, fast = (write_seconds(shape, rates) for rates in (RATES, ASSUMED_DISK))
            interval = max(best, fast)
            rows.setdefault("a state, GB", []).append(f"{sum(state_bytes(shape).values()) / 1e9:.0f}")
            rows.setdefault("host memory of the first process while it saves, GB", []).append(
                f"{host_bytes(shape) / 1e9:.0f}"
            )
            rows.setdefault("the training stands still, s", []).append(f"{stall:.0f}")
            rows.setdefault("writing at the rate measured here, min", []).append(f"{slow / 60:.0f}")
            rows.setdefault("writing at 1 GB/s (assumed), min", []).append(f"{fast / 60:.1f}")
            rows.setdefault("time between failures, h", []).append(f"{between / 3600:,.0f}")
            rows.setdefault("best time between saves, min", []).append(f"{best / 60:.0f}")
            rows.setdefault("lost then, with all failures", []).append(
                f"{lost_share(interval, stall, between, write=fast, restart=RESTART):.1%}"
            )
            rows.setdefault("of that work done again and restarts, h a day", []).append(
                f"{lost_hours_a_day(interval, between, write=fast, restart=RESTART):.2f}"
            )
    for words, values in rows.items():
        yield words, *values


def growing() -> Iterator[Sequence[str]]:
    old, new = (shape_of(config) for config in MODELS.values())
    yield "7B to 13B", "bf16 files", "fp32 files"
    yield "read, written, GB", *(f"{n * old.weights / 1e9:.0f}, {n * new.weights / 1e9:.0f}" for n in (2, 4))
    yield "memory, tensor by tensor, GB", *(f"{streaming_bytes(old, new, n) / 1e9:.1f}" for n in (2, 4))
    yield "minutes on one core, as measured here", *(f"{grow_seconds(new, n, RATES) / 60:.1f}" for n in (2, 4))
    yield "memory of the check, GB", *(f"{check_bytes(new) / 1e9:.0f}" for _ in (2, 4))
    yield "FLOPs of the check", *(f"{check_flops(old, new):.2g}" for _ in (2, 4))
    yield (
        "as a stage's `surgery`: memory of every process, GB",
        *(f"{in_memory_bytes(old, new) / 1e9:.0f}" for _ in (2, 4)),
    )
    yield "the same for a node of 8, GB", *(f"{8 * in_memory_bytes(old, new) / 1e9:.0f}" for _ in (2, 4))


def walls() -> Iterator[Sequence[str]]:
    shapes = [shape_of(config) for config in MODELS.values()]
    state = [sum(state_bytes(shape).values()) for shape in shapes]
    yield "", *MODELS
    yield (
        "loading weights from bf16 files: host memory of a node of 8, GB",
        *(f"{8 * 4 * s.weights / 1e9:.0f}" for s in shapes),
    )
    yield (
        "resuming: every process reads a state twice, GB of a node of 8",
        *(f"{2 * 8 * one / 1e9:,.0f}" for one in state),
    )
    yield (
        "`accumulate` above 1 with shares: a whole gradient on each GPU, GB",
        *(f"{4 * s.weights / 1e9:.0f}" for s in shapes),
    )
    yield (
        "collating a step of 4.2 M tokens, on every process, s",
        *(f"{collate_seconds(ROWS, LENGTH, RATES):.2f}" for _ in shapes),
    )
    yield (
        "tokenising 100 B tokens with one process, days",
        *(f"{prepare_seconds(TOKENS, RATES) / 86400:.1f}" for _ in shapes),
    )
    yield "100 B prepared tokens, GB", *(f"{TOKENS * bytes_per_token(LENGTH, 32000) / 1e9:.0f}" for _ in shapes)


TABLES = {
    "sizes": sizes,
    "7B": lambda: training("7B"),
    "13B": lambda: training("13B"),
    "accumulating": accumulating,
    "saving": saving,
    "growing": growing,
    "walls": walls,
}


def gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


if __name__ == "__main__":
    main()
