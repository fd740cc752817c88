"""Hundreds of kills at random moments, and what is left at the end: `python tests/faults/soak.py --kills 200 --seed 0`.

A run of two stages over two sources, its cache made anew, is started again and again and killed (SIGKILL) each time,
until it ends; then all that it says and leaves is compared, bit by bit, with a run that nobody killed. Then the next
run begins, until there were as many kills as asked for.

Starting Python and importing everything takes longer than the whole run. So runs are forked from this process, which
has imported everything; that is all that they share. A child writes down, in a byte of shared memory, which phase it
is in; "start" is all that lies between the others. Half of the kills come at a random time after the start. The others
wait for a phase that is drawn first, and come at a random time after its beginning: else nearly all would fall into the
longest one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from faults.runs import own_cache, result, two_stages

from warmstart.provenance import machine, versions
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter

PHASES = ("start", "data", "training", "evaluation", "saving", "export")
BEGINS = {
    "warmstart.data.curated:_Pass.make": "data",
    "warmstart.data.prepare:_make": "data",
    "warmstart.models.tokenizer:train_tokenizer": "data",
    "warmstart.train.loop:Training.step": "training",
    "warmstart.train.loop:Training.evaluate": "evaluation",
    "warmstart.train.saving:save_state": "saving",
    "warmstart.run_recipe:save_model": "export",
    "warmstart.run_recipe:files_left": "export",
    "warmstart.run_recipe:_finish_stage": "export",
    "warmstart.run_recipe:_write_report": "export",
}
LONGEST_WAIT = {"start": 0.3, "data": 0.2, "training": 0.02, "evaluation": 0.02, "saving": 0.02, "export": 0.05}
"""Seconds after the beginning of a phase; some of these kills fall into the phase after it."""
BEGINNINGS = {"start": 1, "data": 3, "training": 12, "evaluation": 3, "saving": 5, "export": 3}
"""Of so many beginnings of a phase one is drawn; a run has a few times as many."""


def write_down_phases(shared: mmap.mmap) -> None:
    """From now on this process writes its phase down whenever one begins or ends."""
    import importlib

    for target, phase in BEGINS.items():
        module, _, path = target.partition(":")
        owner: Any = importlib.import_module(module)
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        setattr(owner, name, _marked(getattr(owner, name), PHASES.index(phase), shared))


def _marked(original: Any, phase: int, shared: mmap.mmap) -> Any:
    def marked(*args: Any, **kwargs: Any) -> Any:
        before, shared[0] = shared[0], phase
        try:
            return original(*args, **kwargs)
        finally:
            shared[0] = before

    return marked


def start(recipe: Recipe, out: Path, shared: mmap.mmap) -> int:
    """A child that carries the recipe out; its process id."""
    shared[0] = 0
    child = os.fork()
    if child:
        return child
    try:
        warnings.simplefilter("ignore")
        write_down_phases(shared)
        run(recipe, out, reporter=Reporter())
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def killed_in(child: int, shared: mmap.mmap, draw: random.Random, usual: float, prepared: bool) -> str | None:
    """Kills a child at a random moment; the phase it was in, or None where it ended before.

    Args:
        usual: how many seconds a run takes that is not killed.
        prepared: the data are in the cache already.
    """
    phases = [number for number, phase in enumerate(PHASES) if not (prepared and phase == "data")]
    goal = draw.choice(phases) if draw.random() < 0.5 else None
    skip, began = draw.randrange(BEGINNINGS[PHASES[goal]]) if goal is not None else 0, time.monotonic()
    wait = draw.uniform(0, usual / 3) if goal is None else 0.0
    inside = False
    while goal is not None and time.monotonic() - began < 60:
        if _ended(child):
            return None
        now = shared[0] == goal
        if now and not inside:
            skip -= 1
        inside = now
        if skip < 0:
            wait = draw.uniform(0, LONGEST_WAIT[PHASES[goal]])
            break
        time.sleep(0.0002)
    end = time.monotonic() + wait
    while time.monotonic() < end:
        if _ended(child):
            return None
        time.sleep(0.0002)
    phase = PHASES[shared[0]]
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        _finished[child] = os.WEXITSTATUS(status)
        return None
    return phase


_finished: dict[int, int] = {}


def _ended(child: int) -> bool:
    """Whether a child has ended by itself."""
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        assert os.WIFEXITED(status), "it died of something else"
        _finished[child] = os.WEXITSTATUS(status)
    return bool(pid)


def soak(kills: int, seed: int, folder: Path, tell: Any = print) -> dict[str, Any]:
    """So many kills, and what came of them. Raises AssertionError where a run does not end as it should."""
    draw, shared = random.Random(seed), mmap.mmap(-1, 1)
    phases: Counter[str] = Counter()
    runs, most, began = 0, 0, time.monotonic()
    text = folder / "text"
    recipe = Recipe.model_validate(two_stages(text, steps=40, save_every=5))
    own_cache(folder / "whole")
    run(recipe, folder / "whole/run", reporter=Reporter())
    expected = result(folder / "whole/run")
    clock = time.monotonic()
    own_cache(folder / "again")
    run(recipe, folder / "again/run", reporter=Reporter())
    usual = time.monotonic() - clock
    assert result(folder / "again/run") == expected, "two runs that nobody killed differ"
    while sum(phases.values()) < kills:
        place, in_this_run = folder / f"run-{runs}", 0
        own_cache(place)
        while True:
            child = start(recipe, place / "run", shared)
            if sum(phases.values()) >= kills or in_this_run >= 25:  # let it end
                _, status = os.waitpid(child, 0)
                assert os.WIFEXITED(status)
                assert os.WEXITSTATUS(status) == 0, "a resumed run failed"
                break
            prepared = any((place / "cache").glob("blocks/*/meta.json"))
            phase = killed_in(child, shared, draw, usual, prepared)
            if phase is None:
                assert _finished[child] == 0, "a resumed run failed"
                break
            phases[phase] += 1
            in_this_run += 1
        assert result(place / "run") == expected, f"run {runs} ended otherwise"
        left = [str(p.relative_to(place)) for p in (place / "run").rglob(".*") if ".tmp" in p.name or ".old" in p.name]
        assert not left, f"killed processes left {left}"
        shutil.rmtree(place)
        runs, most = runs + 1, max(most, in_this_run)
        tell(f"run {runs}: killed {in_this_run} times, the same end; {sum(phases.values())} kills: {dict(phases)}")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": seed,
        "kills": sum(phases.values()),
        "kills_by_phase": {phase: phases[phase] for phase in PHASES},
        "runs": runs,
        "most_kills_of_one_run": most,
        "ended_bit_identical": runs,
        "seconds": round(time.monotonic() - began),
        "seconds_of_a_run_that_is_not_killed": round(usual, 2),
        "versions": versions(),
        "machine": machine(),
    }


def shown(found: dict[str, Any]) -> str:
    """The result for docs/reliability.md."""
    kills = found["kills_by_phase"]
    return "\n".join(
        [
            f"{found['date']}, seed {found['seed']}: {found['kills']} kills in {found['runs']} runs, up to "
            f"{found['most_kills_of_one_run']} in one; {found['ended_bit_identical']} of {found['runs']} ended "
            f"bit-identical, in {found['seconds']:,} seconds on a machine with "
            f"{found['machine']['cores']} cores.",
            "",
            "| " + " | ".join(["killed in", *kills]) + " |",
            "| --- |" + " ---: |" * len(kills),
            "| " + " | ".join(["times", *map(str, kills.values())]) + " |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill runs at random moments and compare how they end.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="A JSON file for the result.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="warmstart-soak-") as folder:
        found = soak(options.kills, options.seed, Path(folder))
    print(shown(found))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
