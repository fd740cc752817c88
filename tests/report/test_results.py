"""The results file: its form, its checks, its writing."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from synthetic import study_fields

from warmstart.errors import DataError
from warmstart.report.results import Curve, Results
from warmstart.report.table import comparison_markdown

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = sorted((ROOT / "results").rglob("*.json"))


def test_what_is_saved_is_what_is_loaded(tmp_path):
    results = Results.build(**study_fields())
    path = results.save(tmp_path / "weights" / "tiny.json")
    assert Results.load(path) == results
    assert [p.name for p in path.parent.iterdir()] == ["tiny.json"]
    assert json.loads(path.read_text())["arms"]["grown"]["lineage"][0]["edges"][0]["from"] is None


def test_build_adds_the_effects():
    results = Results.build(**study_fields())
    assert {name: effect.verdict for name, effect in results.effects.items()} == {
        "grown": "holds",
        "worse": "does not hold",
    }
    assert results.effects == results.recomputed()
    assert results.effects["grown"].saving_with_source.mean == pytest.approx(
        results.effects["grown"].saving.mean - 6e11 / 3e12
    )


def test_a_value_that_is_not_finite_becomes_null(tmp_path):
    fields = study_fields()
    arm = fields["arms"]["worse"]
    arm["final"][1] = arm["curve"]["values"][1][-1] = math.nan
    fields["data"]["statistics"]["ratio"] = math.inf
    results = Results.build(**fields)
    text = results.save(tmp_path / "r.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert Results.load(tmp_path / "r.json").arms["worse"].final[1] is None
    assert any("diverged" in remark for remark in results.remarks)


def test_curve_shares_one_axis_where_all_seeds_have_the_same():
    same = [[{"flops": 0, "tokens": 0, "value": 3}, {"flops": 9, "tokens": 5, "value": 2}]] * 2
    other = [same[0], [{"flops": 0, "tokens": 0, "value": 3}, {"flops": 8, "tokens": 5, "value": 1}]]
    assert Curve.of(same).flops == [0, 9]
    assert Curve.of(other).flops == [[0, 9], [0, 8]]
    assert Curve.of(other).tokens == [0, 5]
    assert Curve.of(other).axis("flops", 1) == [0, 8]
    assert Curve.of(other).axis("tokens", 1) == [0, 5]


def broken(change):
    fields = study_fields()
    change(fields)
    return fields


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("slug"), "slug: Field required"),
        (lambda f: f.update(machines={}), r"machines: .*did you mean 'machine'"),
        (lambda f: f.update(seeds=[]), "seeds"),
        (lambda f: f.update(better="up"), "better"),
        (lambda f: f.update(arms={}), "arms"),
        (lambda f: f["arms"]["grown"]["final"].pop(), r"arms.grown.final: 2 values for 3 seeds"),
        (lambda f: f["arms"]["grown"]["reused_flops"].pop(), r"arms.grown.reused_flops: 2 values for 3 seeds"),
        (lambda f: f["arms"]["grown"]["final"].__setitem__(0, 1.0), r"arms.grown.curve: ends at .* final value is 1.0"),
        (lambda f: f["arms"]["grown"]["flops"].__setitem__(0, 9e12), r"ends at 3e\+12 FLOPs, but the arm spent 9e\+12"),
        (lambda f: f["arms"]["grown"]["curve"]["flops"][0].__setitem__(0, 5.0), "before the first step"),
        (lambda f: f["arms"]["grown"]["curve"]["flops"][0].__setitem__(3, 1.0), "must not decrease"),
        (lambda f: f["arms"]["grown"]["curve"]["flops"][0].pop(), "10 flops for 11 values"),
        (lambda f: f["arms"]["grown"]["curve"]["flops"].pop(), "2 lists for 3 seeds"),
        (lambda f: f["arms"]["grown"]["flops"].__setitem__(0, -1), "greater than or equal to 0"),
    ],
)
def test_wrong_results_are_refused_by_the_name_of_the_field(change, message):
    with pytest.raises(DataError, match=message) as error:
        Results.build(**broken(change))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_results_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read the results file"):
        Results.load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"slug": ')
    with pytest.raises(DataError, match="is not JSON"):
        Results.load(tmp_path / "torn.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match=r"list\.json"):
        Results.load(tmp_path / "list.json")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_effects_follow_from_the_committed_curves(path):
    results = Results.load(path)
    assert results.effects == results.recomputed()


def test_the_readmes_table_is_the_committed_result():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- table: (\S+) -->\n(.*?)<!-- end of table -->", readme, re.DOTALL)
    assert found
    path, table = found.groups()
    assert table.strip() == comparison_markdown(Results.load(ROOT / path)).strip()
