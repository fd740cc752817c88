"""Effects and verdicts, against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.verdict import (
    curves,
    effect,
    effects,
    flops_to_reach,
    interval,
    remarks,
    saving_of,
    speed_up,
    student_t_quantile,
)


def curve(*points):
    return [{"flops": float(f), "value": v} for f, v in points]


# Quantiles from printed tables of Student's t.
@pytest.mark.parametrize(
    ("p", "df", "value"),
    [
        (0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 3, 3.18245), (0.975, 4, 2.77645),
        (0.975, 9, 2.26216), (0.975, 30, 2.04227), (0.975, 120, 1.97993), (0.95, 2, 2.91999),
        (0.995, 5, 4.03214), (0.9, 7, 1.41492), (0.025, 2, -4.30265), (0.5, 3, 0.0),
    ],
)  # fmt: skip
def test_the_t_quantile_is_the_printed_one(p, df, value):
    assert student_t_quantile(p, df) == pytest.approx(value, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("p", "df"), [(0.0, 2), (1.0, 2), (0.5, 0)])
def test_the_t_quantile_refuses_what_has_none(p, df):
    with pytest.raises(ValueError, match="t quantile"):
        student_t_quantile(p, df)


def test_interval_by_hand():
    # mean 2, standard deviation 1, n 3: half width 4.30265 / sqrt(3) = 2.48414
    found = interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["low"] == pytest.approx(2 - 2.48414, abs=1e-5)
    assert found["high"] == pytest.approx(2 + 2.48414, abs=1e-5)


def test_one_value_has_no_interval_and_a_missing_one_hides_the_mean():
    assert interval([0.5]) == {"mean": 0.5, "low": None, "high": None}
    assert interval([0.5, None, 0.4]) == {"mean": None, "low": None, "high": None}
    assert interval([]) == {"mean": None, "low": None, "high": None}


def test_reaching_is_interpolated_between_evaluations():
    assert flops_to_reach(curve((0, 8), (100, 4), (200, 2)), 3.0) == 150
    assert flops_to_reach(curve((0, 8), (100, 4), (200, 2)), 4.0) == 100
    assert flops_to_reach(curve((0, 0.1), (100, 0.5)), 0.3, "higher") == pytest.approx(50)


def test_a_curve_past_the_target_from_before_its_first_step_needs_nothing():
    assert flops_to_reach(curve((0, 2), (100, 2.5), (200, 1)), 3.0) == 0


def test_a_start_at_the_target_that_a_warm_up_undoes_saves_nothing_yet():
    assert flops_to_reach(curve((0, 2), (100, 5), (200, 1)), 3.0) == 150


def test_a_target_that_is_never_reached_has_no_flops():
    assert flops_to_reach(curve((0, 8), (100, 4)), 3.999) is None


def test_a_noisy_curve_counts_its_last_crossing():
    assert flops_to_reach(curve((0, 5), (10, 3), (20, 4.5), (30, 2)), 4.0) == pytest.approx(22)


def test_a_curve_that_ends_worse_never_reached_the_target():
    assert flops_to_reach(curve((0, 8), (100, 3), (200, 4)), 3.5) is None


def test_a_jump_between_two_stages_is_a_vertical_line():
    assert flops_to_reach(curve((0, 5), (10, 4), (10, 2), (20, 1)), 3.0) == 10


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_nothing_is_interpolated_across_a_value_that_is_not_finite(bad):
    assert flops_to_reach(curve((0, 8), (100, bad), (200, 2)), 3.0) == 200
    assert flops_to_reach(curve((0, 2), (100, bad), (200, 2)), 3.0) == 200
    assert flops_to_reach(curve((0, 8), (100, bad)), 3.0) is None


def test_a_curve_that_goes_back_in_flops_is_refused():
    with pytest.raises(ValueError, match="must not decrease"):
        flops_to_reach(curve((0, 8), (100, 7), (50, 2)), 3.0)
    with pytest.raises(ValueError, match="at least one"):
        flops_to_reach([], 3.0)


@given(
    st.lists(st.floats(0.1, 9), min_size=2, max_size=12),
    st.floats(0.1, 9),
)
def test_reaching_lies_where_the_curve_was_last_worse_than_the_target(values, target):
    points = curve(*enumerate(values))
    found = flops_to_reach(points, target)
    last_worse = max((i for i, v in enumerate(values) if v > target), default=None)
    if last_worse is None:
        assert found == 0
    elif last_worse == len(values) - 1:
        assert found is None
    else:
        assert last_worse <= found <= last_worse + 1


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=12), st.floats(0.1, 9))
def test_higher_is_better_is_the_mirror_image(values, target):
    mirrored = [-v for v in values]
    assert flops_to_reach(curve(*enumerate(values)), target, "lower") == flops_to_reach(
        curve(*enumerate(mirrored)), -target, "higher"
    )


def test_a_speed_up_is_not_a_saving():
    saving = 1 - 194 / 300  # 300 B tokens -> 194 B tokens
    assert saving == pytest.approx(0.353, abs=5e-4)
    assert speed_up(saving) == pytest.approx(0.546, abs=5e-4)
    assert saving_of(0.546) == pytest.approx(0.353, abs=5e-4)
    assert speed_up(1.0) == math.inf
    assert speed_up(-1.0) == -0.5
    with pytest.raises(ValueError, match="no more than everything"):
        speed_up(1.01)
    with pytest.raises(ValueError, match="above -1"):
        saving_of(-1.0)


@given(st.floats(-5, 0.99))
def test_saving_and_speed_up_undo_each_other(saving):
    assert saving_of(speed_up(saving)) == pytest.approx(saving, abs=1e-9)


BASELINE = [curve((0, 8), (100, 4.0)), curve((0, 8), (100, 4.1)), curve((0, 8), (100, 3.9))]


def test_a_clear_saving_holds():
    method = [curve((0, 5), (50, b[-1]["value"] - 0.01 * s), (100, 3.5)) for s, b in enumerate(BASELINE, 1)]
    found = effect(method, BASELINE, [25, 25, 25], "lower")
    assert found["difference"]["per_seed"] == pytest.approx([-0.5, -0.6, -0.4])
    assert found["difference"]["mean"] == pytest.approx(-0.5)
    # From 5.0 at 0 to 3.99 at 50: past 4.0 at 50 * 1.0 / 1.01.
    assert found["saving"]["per_seed"][0] == pytest.approx(1 - 50 * (1.0 / 1.01) / 100)
    assert found["saving"]["reached"] == [True, True, True]
    assert found["saving_with_source"]["per_seed"][0] == pytest.approx(found["saving"]["per_seed"][0] - 0.25)
    assert found["verdict"] == "holds"


def test_the_same_for_a_metric_of_which_more_is_better():
    base = [curve((0, 0.1), (100, v)) for v in (0.50, 0.51, 0.49)]
    method = [curve((0, 0.1), (50, v), (100, v)) for v in (0.60, 0.61, 0.60)]
    found = effect(method, base, [0, 0, 0], "higher")
    assert found["verdict"] == "holds"
    assert effect(base, method, [0, 0, 0], "higher")["verdict"] == "does not hold"


def test_a_worse_method_does_not_hold_and_its_missing_savings_are_not_zero():
    method = [curve((0, 8), (100, b[-1]["value"] + 0.5 + 0.01 * s)) for s, b in enumerate(BASELINE)]
    found = effect(method, BASELINE, [0, 0, 0], "lower")
    assert found["saving"] == {
        "mean": None, "low": None, "high": None, "per_seed": [None] * 3, "reached": [False] * 3,
    }  # fmt: skip
    assert found["verdict"] == "does not hold"


def test_one_missed_seed_hides_the_mean_but_not_the_other_seeds():
    method = [curve((0, 8), (100, 3.5)), curve((0, 8), (100, 3.6)), curve((0, 8), (100, 3.95))]
    found = effect(method, BASELINE, [0, 0, 0], "lower")
    assert found["saving"]["reached"] == [True, True, False]
    assert found["saving"]["mean"] is None
    assert found["saving"]["per_seed"][0] is not None
    assert found["verdict"] == "unclear"


def test_one_seed_is_always_unclear():
    found = effect([curve((0, 2), (100, 1))], BASELINE[:1], [0], "lower")
    assert found["saving"]["mean"] == 1.0
    assert found["saving"]["low"] is None
    assert found["difference"]["mean"] == -3
    assert found["verdict"] == "unclear"


def test_an_interval_around_zero_is_unclear():
    method = [curve((0, 8), (100, b[-1]["value"] + d)) for b, d in zip(BASELINE, (-0.1, 0.1, -0.05), strict=True)]
    assert effect(method, BASELINE, [0, 0, 0], "lower")["verdict"] == "unclear"


def test_no_difference_at_all_is_unclear():
    assert effect(BASELINE, BASELINE, [0, 0, 0], "lower")["verdict"] == "unclear"


def test_a_better_end_that_took_longer_than_the_baseline_is_not_a_saving():
    # Not equal compute: the method needs 150 of its 200 FLOPs for what the baseline had after 100.
    method = [curve((0, 8), (150, b[-1]["value"]), (200, b[-1]["value"] - 1)) for b in BASELINE]
    found = effect(method, BASELINE, [0, 0, 0], "lower")
    assert found["saving"]["mean"] == pytest.approx(-0.5)
    assert found["verdict"] == "does not hold"


def test_a_method_that_diverged_every_time_does_not_hold_and_once_is_unclear():
    broken = [curve((0, 8), (100, math.nan))] * 3
    assert effect(broken, BASELINE, [0, 0, 0], "lower")["verdict"] == "does not hold"
    good = [curve((0, 5), (100, 3.0)), curve((0, 5), (100, 3.0)), broken[0]]
    assert effect(good, BASELINE, [0, 0, 0], "lower")["verdict"] == "unclear"
    assert effect(good, broken, [0, 0, 0], "lower")["verdict"] == "unclear"


def test_a_saving_is_never_above_everything():
    method = [curve((0, 3), (100, 2.0)), curve((0, 3.0), (100, 2.1)), curve((0, 4.4), (50, 3.0), (100, 2.0))]
    found = effect(method, BASELINE, [0, 0, 0], "lower")
    assert found["saving"]["high"] == 1.0


def results(**arms):
    return {
        "seeds": [0, 1], "baseline": "scratch", "better": "lower", "arms": arms,
    }  # fmt: skip


def arm(values, flops=(0, 50, 100), reused=()):
    return {"curve": {"flops": list(flops), "values": values}, "reused_flops": list(reused)}


def test_effects_of_a_results_file_charge_each_arm_what_it_reused():
    scratch = arm([[8, 5, 4.0], [8, 5, 4.2]])
    grown = [[6, 3.5, 3.0], [6, 3.5, 3.0]]
    found = effects(results(scratch=scratch, a=arm(grown, reused=[21.0, 32.0]), b=arm(grown)))
    assert list(found) == ["a", "b"]
    saved = found["b"]["saving"]["per_seed"]
    assert found["b"]["saving_with_source"]["per_seed"] == saved
    assert found["a"]["saving_with_source"]["per_seed"] == pytest.approx([saved[0] - 0.21, saved[1] - 0.32])


def test_what_the_baseline_reuses_too_is_charged_to_nobody():
    start = [[6, 4.5, 4.0], [6, 4.5, 4.2]]
    better = [[6, 3.5, 3.0], [6, 3.5, 3.0]]
    shared, teacher = [300.0, 400.0], [305.0, 407.0]
    found = effects(
        results(scratch=arm(start, reused=shared), a=arm(better, reused=shared), b=arm(better, reused=teacher))
    )
    saved = found["a"]["saving"]["per_seed"]
    assert found["a"]["saving_with_source"]["per_seed"] == saved
    assert found["b"]["saving_with_source"]["per_seed"] == pytest.approx([saved[0] - 0.05, saved[1] - 0.07])
    unknown = effects(results(scratch=arm(start, reused=shared), a=arm(better, reused=[None, 400.0])))
    assert unknown["a"]["saving_with_source"]["per_seed"] == [None, saved[1]]


def test_a_curve_may_have_flops_of_its_own_for_each_seed():
    own = {"curve": {"flops": [[0, 10], [0, 20]], "values": [[2, 1], [4, 3]]}}
    assert [[p["flops"] for p in c] for c in curves(own)] == [[0, 10], [0, 20]]


def test_without_the_baseline_there_is_no_effect_but_a_remark():
    assert effects(results(a=arm([[8, 5, 4], [8, 5, 4]]))) == {}
    assert "was not run" in remarks(results(a=arm([[8, 5, 4], [8, 5, 4]])))[0]


def test_remarks_name_what_weakens_a_result():
    scratch = arm([[8, 3.5, 4.0], [8, 5, 4.2]])
    broken = arm([[8, 3.0, 4.5], [8, 5, math.nan]])
    unequal = arm([[8, 5, 4], [8, 5, 4]], flops=(0, 50, 130))
    text = "\n".join(remarks(results(scratch=scratch, broken=broken, unequal=unequal)))
    assert "'scratch', seed 0: ended worse (4) than it had been (3.5)" in text
    assert "'broken', seed 1: diverged" in text
    assert "'unequal', seed 0: spent +30.0% FLOPs" in text
    assert remarks(results(scratch=arm([[8, 5, 4], [8, 5, 4]]))) == []


def test_a_reference_at_another_budget_is_shown_and_not_judged():
    scratch, other = arm([[8, 5, 4], [8, 5, 4]]), arm([[8, 3, 2], [8, 3, 2]], flops=(0, 500, 1000))
    found = results(scratch=scratch, upper=other) | {"references": ["upper"]}
    assert effects(found) == {}
    assert remarks(found) == ["'upper' is a reference at another budget: it is not judged."]
    assert set(effects(results(scratch=scratch, upper=other))) == {"upper"}
