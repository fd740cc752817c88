"""The comparison table in a terminal and in markdown."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent))
from synthetic import arm, study_fields

from warmstart.report import numbers
from warmstart.report.results import Claim, Results
from warmstart.report.table import claim_text, claimed_saving, comparison_markdown, comparison_table, rows


def printed(results: Results, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(comparison_table(results))
    return console.file.getvalue()


def test_every_number_fits_into_a_hundred_columns():
    fields = study_fields()
    fields["arms"]["aki-two-stage"] = arm(6.0, 3.6, 5.0, 3, name="aki-two-stage", source=True)
    text = printed(Results.build(**fields))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    row = next(line for line in lines if line.strip().startswith("aki-two-stage "))
    assert row.rstrip().endswith("holds")
    assert "±" in row


def test_rows_say_what_was_measured():
    baseline, grown, worse = rows(Results.build(**study_fields()))
    assert baseline.arm == "scratch"
    assert baseline.verdict == ""
    assert baseline.difference == numbers.MISSING
    assert baseline.final == "4.010 ± 0.025"  # 4.00, 4.01, 4.02: half width 4.303 * 0.01 / sqrt(3)
    assert grown.difference == "−0.300 ± 0.000"
    assert grown.flops == "3.00 T"
    assert grown.memory == "1.2 GiB"
    assert grown.verdict == "holds"
    assert worse.saving == "never reached"
    assert worse.verdict == "does not hold"


def test_the_paper_stands_beside_with_its_setting():
    for text in (printed(Results.build(**study_fields())), comparison_markdown(Results.build(**study_fields()))):
        flat = " ".join(text.split())
        assert "Paper: 47 % training compute saved (a larger model). A paper, 2021, arXiv:2110.07143." in flat
        assert "it does not reproduce the paper's number" in flat


def test_one_seed_shows_no_interval():
    _, grown, _ = rows(Results.build(**study_fields(seeds=1)))
    assert "±" not in grown.final + grown.difference
    assert "[" not in grown.saving
    assert grown.verdict == "unclear"


def test_names_are_shown_as_they_are():
    fields = study_fields(title="[bold]x[/bold]")
    fields["arms"]["a|b[red]"] = fields["arms"].pop("grown")
    results = Results.build(**fields)
    assert "[bold]x[/bold]" in printed(results)
    assert "a|b[red]" in printed(results)
    assert r"a\|b\[red\]" in comparison_markdown(results)


def test_a_study_without_a_claim_or_a_baseline_is_shown_too():
    fields = study_fields(claim=None, paper=None)
    del fields["arms"]["scratch"]
    text = printed(Results.build(**fields))
    assert "Paper" not in text
    assert "was not run" in text


@pytest.mark.parametrize(
    ("what", "value", "saving"),
    [
        ("training compute saved", 0.47, 0.47),
        ("a saving in FLOPs", 0.2, 0.2),
        ("speed-up in tokens", 0.546, 0.353),
        ("GLUE points", 1.2, None),
        ("training compute saved", None, None),
    ],
)
def test_a_claim_is_a_saving_only_where_it_says_so(what, value, saving):
    found = claimed_saving(Claim(what=what, value=value))
    assert found == (saving if saving is None else pytest.approx(saving, abs=5e-4))


def test_a_claimed_speed_up_is_also_given_as_a_saving():
    results = Results.build(**study_fields(claim={"what": "speed-up", "value": 0.546, "where": "7B"}))
    assert claim_text(results) == "54.6 % (a saving of 35.3 %) speed-up (7B)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e13, "30.0 T"), (999.4, "999"), (999.6, "1.00 k"), (1234567, "1.23 M"), (0, "0"), (12, "12"), (12.34, "12.3"),
     (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_scaled_numbers(value, text):
    assert numbers.scaled(value) == text


def test_durations_sizes_and_shares():
    assert [numbers.duration(s) for s in (8.3, 250, 7500)] == ["8.3 s", "4 min 10 s", "2 h 05 min"]
    assert [numbers.size(b) for b in (12, 2048, 5 << 28)] == ["12 B", "2.0 KiB", "1.2 GiB"]
    assert [numbers.percent(p) for p in (0.351, -0.126, -0.001, None)] == ["35 %", "−13 %", "0 %", "–"]
