"""The small figure of a study: well-formed, the same bytes every time, and true to the numbers."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.synthetic import study_fields

from warmstart.report.figure import HEIGHT, LEFT, RIGHT, WIDTH, description, figure, spread, ticks
from warmstart.report.results import Results

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert(1)</script>"&'


def drawn(results: Results, own: str | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(figure(results, own))


def data_fields() -> dict:
    """A study without training: bars."""
    fields = study_fields()
    for k, arm in enumerate(fields["arms"].values()):
        arm["final"] = [2.0 + k, 2.1 + k, 1.9 + k]
        arm["flops"] = arm["tokens"] = [0.0] * 3
        arm["curve"] = {"flops": [0.0], "tokens": [0.0], "values": [[value] for value in arm["final"]]}
        arm["reused_flops"], arm["lineage"] = [], []
    return fields | {"metric": "rows/entropy", "better": "higher", "sources": {}}


def paths(svg: ElementTree.Element, kind: str) -> list[str]:
    return [p.get("d", "") for p in svg.iter(f"{SVG}path") if kind in (p.get("class") or "").split()]


def numbers_of(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", path)]


def test_a_curve_and_a_band_per_arm_inside_the_card() -> None:
    results = Results.build(**study_fields())
    svg = drawn(results, "grown")
    assert len(paths(svg, "mean")) == len(paths(svg, "band")) == len(results.arms)
    assert len(paths(svg, "own")) == 1
    xs = [x for path in paths(svg, "mean") for x in numbers_of(path)[::2]]
    assert min(xs) == LEFT
    assert max(xs) == WIDTH - RIGHT
    names = [text.text for text in svg.iter(f"{SVG}text") if "name" in (text.get("class") or "").split()]
    assert sorted(names) == sorted(f"{name} (baseline)" if name == results.baseline else name for name in results.arms)
    assert all(0 < float(text.get("y", "")) < HEIGHT for text in svg.iter(f"{SVG}text"))


def test_better_curves_lie_on_the_better_side() -> None:
    results = Results.build(**study_fields())
    svg = drawn(results)
    heights = {}
    for path, name in zip(paths(svg, "mean"), results.arms, strict=True):
        heights[name] = numbers_of(path)[-1]  # of the end; SVG counts downwards
    ends = {name: sum(arm.final) for name, arm in results.arms.items()}  # type: ignore[arg-type]
    assert sorted(heights, key=lambda n: -heights[n]) == sorted(ends, key=lambda n: ends[n])


def test_bars_begin_at_zero_and_have_a_dot_per_seed() -> None:
    results = Results.build(**data_fields())
    svg = drawn(results, "grown")
    bars = [r for r in svg.iter(f"{SVG}rect") if "bar" in (r.get("class") or "").split()]
    widths = [float(bar.get("width", "")) for bar in bars]
    means = [sum(arm.final) / 3 for arm in results.arms.values()]  # type: ignore[arg-type]
    assert len({bar.get("x") for bar in bars}) == 1
    assert [w / widths[0] for w in widths] == pytest.approx([m / means[0] for m in means], rel=1e-2)
    assert len(list(svg.iter(f"{SVG}circle"))) == 3 * len(results.arms)


def test_the_same_results_give_the_same_bytes_and_ask_for_nothing() -> None:
    text = figure(Results.build(**study_fields()), "grown")
    assert text == figure(Results.build(**study_fields()), "grown")
    assert "href" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("fields", [study_fields(), data_fields()], ids=["curves", "bars"])
def test_names_are_never_markup(fields: dict) -> None:
    fields |= {"metric": EVIL, "slug": EVIL, "scale": EVIL}
    fields["arms"][EVIL] = fields["arms"].pop("grown")
    svg = drawn(Results.build(**fields), EVIL)
    assert not list(svg.iter(f"{SVG}script"))
    assert EVIL in (svg.get("aria-label") or "")


def test_one_seed_no_baseline_and_runs_that_diverged() -> None:
    fields = study_fields(seeds=1)
    for arm in fields["arms"].values():
        arm["final"][0] = arm["curve"]["values"][0][-1] = None
    assert len(paths(drawn(Results.build(**fields)), "mean")) == len(fields["arms"])
    del fields["arms"]["scratch"]
    for arm in fields["arms"].values():
        arm["final"], arm["curve"]["values"] = [None], [[None] * len(arm["curve"]["values"][0])]
    results = Results.build(**fields)
    assert paths(drawn(results), "mean") == []
    assert "finite in 0 of 1" in description(results) or "–" in description(results)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 2 <= len(found) <= 12
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)
    steps = {round((b - a) / width, 6) for a, b in itertools.pairwise(found)}
    assert len(steps) == 1


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    found = spread(places, 0, 100, gap=10)
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in found)
    order = sorted(range(len(places)), key=lambda k: places[k])
    for one, other in itertools.pairwise(order):
        assert found[other] - found[one] >= 10 - 1e-6
    if all(b - a >= 10 for a, b in itertools.pairwise(sorted(places))):
        assert found == pytest.approx(places)
