"""docs/reliability.md names tests that there are, and the result of the soak as it came out."""

from __future__ import annotations

import json
import re
from pathlib import Path

from faults.soak import PHASES, shown

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(?:[\w/]*/)?(test_\w+\.py)?(?:::(test_\w+))?`", TEXT)
    named = [(file, test) for file, test in named if file or test]
    assert len(named) > 15
    last = ""
    for file, test in named:
        last = file or last
        found = list((ROOT / "tests").rglob(last))
        assert found, last
        assert not test or f"def {test}(" in found[0].read_text(encoding="utf-8"), f"{last}::{test}"


def test_the_soak_is_shown_as_it_came_out() -> None:
    result = json.loads((ROOT / "docs/reliability-soak.json").read_text(encoding="utf-8"))
    assert shown(result) in TEXT
    assert result["kills"] >= 200
    assert result["ended_bit_identical"] == result["runs"]
    assert sum(result["kills_by_phase"].values()) == result["kills"]
    assert all(result["kills_by_phase"][phase] > 0 for phase in PHASES)
