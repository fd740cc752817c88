"""Times of exchange, of saving and of failures, by hand; test_processes.py compares bytes with real processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_configurations import tiny

from warmstart.forecast.cluster.activations import Batch
from warmstart.forecast.cluster.communication import exchange_seconds, exchanged, sent
from warmstart.forecast.cluster.live import LiveBytes
from warmstart.forecast.cluster.machine import H100, Machine, Rates
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
from warmstart.forecast.cluster.shape import shape_of
from warmstart.train.saving import Saving

SHAPE = shape_of(tiny("llama"))
RATES = Rates(save=100.0, collate=1.0, grow=1.0, tokenise=1.0)
PLAIN = Machine(inside=10.0, outside=2.0, gpus=4, to_host=50.0, efficiency=1.0)


def test_a_ring() -> None:
    assert sent({"all-gather": 800}, 4) == 600
    assert sent({"all-reduce": 800}, 4) == 1200
    assert exchange_seconds({"reduce-scatter": 800}, 4, PLAIN) == 60.0
    # Two nodes: each gets the other's half through four adapters of 2 a second; inside 7/8 at 10 a second.
    assert exchange_seconds({"reduce-scatter": 800}, 8, PLAIN) == max(400 / 8, 700 / 10)
    assert exchange_seconds({"reduce-scatter": 800}, 16, PLAIN) == max(600 / 8, 750 / 10)
    assert exchange_seconds({"all-gather": 800}, 4, Machine(inside=10.0, efficiency=0.5)) == 120.0


def test_a_process_alone_exchanges_nothing() -> None:
    assert exchanged(SHAPE, Batch(1, 8), 1) == {}
    assert exchanged(SHAPE, Batch(1, 8, shares=False), 1) == {}


@pytest.mark.parametrize("shares", [False, True])
def test_the_hosts_memory_while_a_state_is_saved(tmp_path: Path, shares: bool) -> None:
    """What `Saving` holds at most. With shares its tensors were made for it; on a GPU copies are made from there."""
    sizes = {"model": SHAPE.weights, "optimizer": 2 * SHAPE.weights + len(SHAPE.tensors)}
    outside = {group: torch.zeros(count) for group, count in sizes.items()}
    with LiveBytes(() if shares else outside.values()) as live:
        tensors = {group: {"w": torch.zeros(count) if shares else outside[group]} for group, count in sizes.items()}
        with Saving(tmp_path, 2, background=True) as saving:
            saving.save(1, tensors, {}, copies=sizes if shares else ())
    assert live.peak == host_bytes(SHAPE)


def test_seconds_of_saving() -> None:
    size = sum(state_bytes(SHAPE).values())
    assert size == 12 * SHAPE.weights + 4 * len(SHAPE.tensors)
    assert write_seconds(SHAPE, RATES) == size / 100
    assert stall_seconds(SHAPE, 4, PLAIN, shares=False) == size / 50
    together = size / 50 + exchange_seconds({"all-gather": size}, 4, PLAIN)
    assert stall_seconds(SHAPE, 4, PLAIN, shares=True) == pytest.approx(together)


def test_the_best_interval_is_best() -> None:
    stall, between = 30.0, 50_000.0
    best = best_interval(stall, between)
    assert best == pytest.approx(1732.05, abs=0.01)
    around = [lost_share(best * factor, stall, between, write=100, restart=600) for factor in (0.8, 1.0, 1.25)]
    assert min(around) == around[1]


def test_what_failures_cost_is_what_a_simulation_loses() -> None:
    """A state is taken every `interval` seconds and is on the disk `write` seconds later; failures come by chance."""
    interval, write, restart, between = 1000.0, 200.0, 300.0, 40_000.0
    draw = np.random.default_rng(0)
    lost = []
    for _ in range(20_000):
        failure = draw.exponential(between) + 10 * interval  # long after the start
        newest = np.floor((failure - write) / interval) * interval
        lost.append(failure - newest + restart)
    expected = lost_hours_a_day(interval, between, write=write, restart=restart)
    assert np.mean(lost) * 86400 / between / 3600 == pytest.approx(expected, rel=0.02)
    assert lost_share(interval, 0.0, between, write=write, restart=restart) == pytest.approx(expected / 24)


def test_failures_add_up() -> None:
    assert time_between_failures(512, 512 * 3600.0) == 3600.0
    assert H100.usable == pytest.approx(72e9)
