"""What the charts show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from synthetic import arm, study_fields

from warmstart.report.charts import curves_chart, run_charts, savings_chart
from warmstart.report.results import Results


def test_curves_have_mean_and_band_on_both_axes():
    chart = curves_chart(Results.build(**study_fields()))
    grown = next(a for a in chart["arms"] if a["name"] == "grown")
    assert grown["x"]["flops"][0] == 0
    assert grown["x"]["tokens"][-1] == 1e6
    assert (grown["low"][-1], grown["mean"][-1], grown["high"][-1]) == pytest.approx((3.7, 3.71, 3.72))
    assert chart["target"] == pytest.approx(4.01)
    json.dumps(chart, allow_nan=False)


def test_the_zoom_shows_the_ends_and_the_grown_start_but_not_the_first_loss():
    low, high = curves_chart(Results.build(**study_fields()))["range"]
    assert low < 3.7
    assert 4.62 < high < 8


def test_the_zoom_shows_a_worse_arm_from_its_half_on():
    fields = study_fields()
    fields["arms"]["worse"] = arm(8.0, 5.5, 5.0, 3, name="worse", source=True)
    chart = curves_chart(Results.build(**fields))
    worse = next(a for a in chart["arms"] if a["name"] == "worse")
    assert chart["range"][1] > worse["mean"][5] > worse["mean"][-1]


def test_seeds_with_other_flops_are_put_together_by_evaluation():
    fields = study_fields(seeds=2)
    flops = fields["arms"]["grown"]["curve"]["flops"]
    flops[1] = [0.998 * f for f in flops[0]]
    grown = curves_chart(Results.build(**fields))["arms"][1]
    assert grown["x"]["flops"][-1] == pytest.approx(0.999 * 3e12)


def test_seeds_with_other_evaluations_are_interpolated():
    fields = study_fields(seeds=2)
    curve = fields["arms"]["grown"]["curve"]
    for key in ("flops", "tokens", "values"):
        del curve[key][1][5]
    grown = curves_chart(Results.build(**fields))["arms"][1]
    around = (curve["values"][1][4] + curve["values"][1][5]) / 2
    assert grown["mean"][5] == pytest.approx((curve["values"][0][5] + around) / 2)


def test_savings_chart_leaves_out_nothing():
    chart = savings_chart(Results.build(**study_fields()))
    assert [a["name"] for a in chart["arms"]] == ["grown", "worse"]
    assert chart["arms"][1]["saving"]["mean"] is None
    assert chart["arms"][1]["text"] == "never reached"
    assert chart["claimed"] == 0.47


def line(step, **values):
    return {"step": step, "tokens": 10 * step, "flops": 100 * step, "seconds": 1.0} | values


def test_run_charts_count_through_the_stages():
    stages = [
        ("00-a", [line(0, **{"validation/loss": 5.0}), line(10, loss=4.0), line(10, **{"validation/loss": 4.1})]),
        ("01-b", [line(5, loss=3.0)]),
    ]
    (loss,) = run_charts(stages)
    assert loss["title"] == "loss"
    assert loss["borders"] == [{"stage": "01-b", "step": 10, "tokens": 100, "flops": 1000}]
    by_name = {(s["name"], s["stage_name"]): s for s in loss["series"]}
    assert by_name["loss", "01-b"]["x"] == {"step": [15], "tokens": [150], "flops": [1500]}
    assert by_name["validation/loss", "00-a"]["y"] == [5.0, 4.1]


def test_run_charts_leave_out_words_and_use_a_log_scale_where_values_differ_much():
    lines = [line(1, loss=4.0, note="x", flag=True, perplexity=3000.0), line(2, loss=None, perplexity=30.0)]
    charts = run_charts([("00-a", lines)])
    assert [c["title"] for c in charts] == ["loss", "perplexity"]
    assert [c["logarithmic"] for c in charts] == [False, True]
    assert charts[0]["series"][0]["y"] == [4.0, None]


def test_a_further_held_out_set_has_curves_of_its_own():
    fields = study_fields()
    for each in fields["arms"].values():
        values = [[v + 1 for v in seed] for seed in each["curve"]["values"]]
        each["also"] = {"old": {**each["curve"], "values": values}}
    results = Results.build(**fields)
    assert results.also == ["old"]
    own, old = curves_chart(results), curves_chart(results.about("old"))
    assert old["metric"] == "old/loss"
    for one, other in zip(own["arms"], old["arms"], strict=True):
        assert other["mean"] == pytest.approx([v + 1 for v in one["mean"]])
    assert old["range"] == pytest.approx([v + 1 for v in own["range"]])
    assert Results.build(**study_fields()).also == []


def test_held_out_losses_share_the_chart_of_the_training_loss():
    line = {"step": 1, "tokens": 1, "flops": 1.0, "loss": 3.0, "validation/loss": 2.0, "old/loss": 1.0}
    found = run_charts([("one", [line | {"old/accuracy": 0.5, "validation/a/loss": 1.0}])])
    assert {series["name"] for series in found[0]["series"]} == {"loss", "validation/loss", "old/loss"}
    assert {chart["title"] for chart in found[1:]} == {"old/accuracy", "validation/a/loss"}
