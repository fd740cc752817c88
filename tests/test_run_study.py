"""A study from its arms to its verdict."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent))
from corpora import TINY_GPT2, write_corpus
from tiny_studies import stopping_study, tiny_study

import warmstart
from warmstart.errors import RecipeError, StateError
from warmstart.recipe_file import read_recipe
from warmstart.report.results import Results
from warmstart.run_study import plan
from warmstart.studies.tasks import forget


@pytest.mark.slow
def test_study_end_to_end(tmp_path: Path) -> None:
    study = warmstart.Study.model_validate(tiny_study(write_corpus(tmp_path / "c.jsonl")))
    console = Console(file=io.StringIO(), width=120)
    out = tmp_path / "out"
    record = warmstart.study(
        study, slug="tiny", scale="laptop", out=out, jobs=2, results=tmp_path / "results", console=console
    )
    assert json.loads((tmp_path / "results/weights/tiny.json").read_text()) == json.loads(
        (out / "results.json").read_text()
    )
    assert (out / "report.html").is_file()
    assert set(record["arms"]) == {"scratch", "fpi", "staged"}
    for name, arm in record["arms"].items():
        assert len(arm["final"]) == 2
        for seed in range(2):
            assert 0.9 * 2e8 < arm["flops"][seed] <= 2e8, name
            assert arm["curve"]["flops"][seed][0] == 0
            assert arm["curve"]["flops"][seed][-1] == pytest.approx(arm["flops"][seed])
            assert arm["curve"]["values"][seed][-1] == arm["final"][seed]
    source = record["sources"]["small"]
    assert record["arms"]["fpi"]["reused_flops"] == pytest.approx(source["flops"])
    assert record["arms"]["scratch"]["reused_flops"] == [0, 0]
    # the grown arm starts where its own seed's source ended
    for seed in range(2):
        lines = (out / f"sources/small/seed-{seed}/stages/00-stage/metrics.jsonl").read_text().splitlines()
        end = json.loads(lines[-1])["validation/loss"]
        assert record["arms"]["fpi"]["curve"]["values"][seed][0] == pytest.approx(end, abs=1e-4)
    assert set(record["effects"]) == {"fpi", "staged"}
    # nothing is run twice
    stamp = (out / "arms/fpi/seed-1/stages/00-stage/stage.json").stat().st_mtime_ns
    again = warmstart.study(study, slug="tiny", scale="laptop", out=out, jobs=2, console=console)
    assert (out / "arms/fpi/seed-1/stages/00-stage/stage.json").stat().st_mtime_ns == stamp
    assert again["arms"]["fpi"]["final"] == record["arms"]["fpi"]["final"]
    # a number that flips on the disk never becomes one of the table; the line that is told mends it
    broken = out / "arms/fpi/seed-1/stages/00-stage/metrics.jsonl"
    content = broken.read_text()
    broken.write_text(content.replace('"validation/loss": ', '"validation/loss": 1', 1))
    with pytest.raises(StateError, match=r"metrics\.jsonl is broken.*'warmstart run \S+ --out \S+' writes it again"):
        warmstart.study(study, slug="tiny", scale="laptop", out=out, jobs=2, console=console)
    arm = out / "arms/fpi/seed-1"
    warmstart.run(read_recipe(arm / "recipe.yaml"), arm, console=console)
    assert broken.read_text() == content
    again = warmstart.study(study, slug="tiny", scale="laptop", out=out, jobs=2, console=console)
    assert again["arms"]["fpi"]["curve"] == record["arms"]["fpi"]["curve"]


def test_plan_pairs_arms_with_the_source_of_their_seed(tmp_path: Path) -> None:
    study = warmstart.Study.model_validate(tiny_study(tmp_path / "c.jsonl"))
    tasks = plan(study, ["scratch", "fpi"], 2, tmp_path / "out")
    assert [t.group for t in tasks] == ["sources"] * 2 + ["arms"] * 4
    for task in tasks:
        if task.name == "fpi":
            assert f"small/seed-{task.seed}/" in str(task.recipe.stages[0].from_)
            assert task.recipe.seed == task.seed


def test_a_fresh_study_does_not_begin_with_what_an_earlier_one_made(tmp_path: Path) -> None:
    """Else an arm would start from a source whose folder is just being removed."""
    study = warmstart.Study.model_validate(tiny_study(write_corpus(tmp_path / "c.jsonl")))
    tasks = plan(study, ["scratch", "fpi"], 1, tmp_path / "out")
    for need in {need for task in tasks for need in task.needs}:
        need.mkdir(parents=True)
        (need / "stage.json").write_text("{}")
    arm = next(task for task in tasks if task.name == "fpi")
    assert arm.ready
    forget(tasks)
    assert not arm.ready
    assert not any(task.finished for task in tasks)


def test_shares_must_fit(tmp_path: Path) -> None:
    raw = tiny_study(tmp_path / "c.jsonl")
    raw["arms"]["staged"][1] = {"budget": {"share": 0.2}}
    with pytest.raises(ValueError, match=r"add up to"):
        warmstart.Study.model_validate(raw)


def test_unknown_arm(tmp_path: Path) -> None:
    study = warmstart.Study.model_validate(tiny_study(tmp_path / "c.jsonl"))
    with pytest.raises(RecipeError, match="did you mean 'scratch'"):
        warmstart.study(study, slug="tiny", scale="laptop", out=tmp_path / "out", arms=["scrach"])


def test_a_new_model_takes_the_tokenizer_of_its_seeds_source(tmp_path: Path) -> None:
    """So that arms that start from the source and arms that start from nothing count loss in the same tokens."""
    raw = tiny_study(tmp_path / "c.jsonl")
    raw["arms"]["scratch"][0]["tokenizer"] = {"load": "small"}
    study = warmstart.Study.model_validate(raw)
    tasks = plan(study, ["scratch"], 2, tmp_path / "out")
    assert [t.group for t in tasks] == ["sources"] * 2 + ["arms"] * 2
    for task in tasks[2:]:
        tokenizer = task.recipe.stages[0].tokenizer
        assert tokenizer is not None
        assert f"small/seed-{task.seed}/stages/00-stage/model" in str(tokenizer.load)
        assert task.needs == [tmp_path / f"out/sources/small/seed-{task.seed}/stages/00-stage"]


@pytest.mark.slow
def test_a_study_shows_what_is_forgotten_and_what_trials_cost(tmp_path: Path) -> None:
    raw = tiny_study(write_corpus(tmp_path / "c.jsonl"), flops=6e8)
    old = {"source": {"type": "files", "path": str(write_corpus(tmp_path / "old.jsonl", seed=5))}}
    raw["shared"]["evaluate"]["also"] = {"old": old}
    raw["shared"]["train"]["learning_rate"] = {"type": "probe", "min_steps": 4}
    raw["arms"] = {name: raw["arms"][name] for name in ("scratch", "fpi")}
    raw["compare"]["seeds"] = 1
    study = warmstart.Study.model_validate(raw)
    console = Console(file=io.StringIO(), width=120)
    record = warmstart.study(study, slug="t", scale="laptop", out=tmp_path / "out", jobs=2, console=console)
    for arm in record["arms"].values():
        assert len(arm["also"]["old"]["values"][0]) == len(arm["curve"]["values"][0])
        assert arm["trial_flops"][0] == arm["curve"]["flops"][0][0] > 0
        assert arm["flops"][0] <= 6e8
    assert "What it did to other held-out data" in (tmp_path / "out/report.html").read_text()


def composed_study(corpus: Path) -> dict[str, Any]:
    """A small and a large source, the large one with the small one's tokenizer; two arms that compose them."""
    raw = tiny_study(corpus)
    shared = raw["shared"]
    tokenizer = shared.pop("tokenizer")
    raw["sources"] = {
        "large": [{"init": TINY_GPT2 | {"n_embd": 32}, "tokenizer": {"load": "small"}, "budget": {"steps": 6}}],
        "small": [{"init": TINY_GPT2, "tokenizer": tokenizer, "budget": {"steps": 6}}],
        "unused": [{"init": TINY_GPT2, "tokenizer": tokenizer, "budget": {"steps": 6}}],
    }
    raw["arms"] = {
        "scratch": [{"from": "small"}],
        "eft": [{"from": "small", "evaluate": {"decode": {"type": "emulated", "base": "large", "reference": "small"}}}],
        "more": [{"from": "large", "budget": {"flops": 8e7}}],
    }
    raw["compare"] |= {"flops": 5e7, "seeds": 1, "references": ["more"]}
    return raw


def test_a_source_waits_for_the_sources_it_names(tmp_path: Path) -> None:
    study = warmstart.Study.model_validate(composed_study(tmp_path / "c.jsonl"))
    tasks = {task.name: task for task in plan(study, ["scratch", "eft"], 1, tmp_path / "out")}
    assert list(tasks) == ["small", "large", "scratch", "eft"]  # in an order in which they can be made
    small, large = (tmp_path / f"out/sources/{name}/seed-0/stages/00-stage" for name in ("small", "large"))
    assert tasks["large"].needs == [small]
    assert tasks["scratch"].needs == [small]
    assert set(tasks["eft"].needs) == {small, large}
    decode = tasks["eft"].recipe.stages[0].evaluate.decode
    assert decode is not None
    found = decode.model_dump()
    assert (found["base"], found["tuned"]) == (str(large.resolve() / "model"), ["stage"])


def test_sources_in_a_circle_or_with_the_stages_name_are_errors(tmp_path: Path) -> None:
    raw = composed_study(tmp_path / "c.jsonl")
    raw["sources"]["small"][0]["tokenizer"] = {"load": "large"}
    with pytest.raises(ValueError, match="sources need each other in a circle: large -> small -> large"):
        warmstart.Study.model_validate(raw)
    raw = composed_study(tmp_path / "c.jsonl")
    raw["sources"]["stage"] = raw["sources"]["unused"]
    with pytest.raises(ValueError, match="'stage' means a stage's own model"):
        warmstart.Study.model_validate(raw)


def test_a_reference_may_have_another_budget_and_the_baseline_may_not(tmp_path: Path) -> None:
    raw = composed_study(tmp_path / "c.jsonl")
    warmstart.Study.model_validate(raw)
    for references, message in (
        (["scratch"], "is the baseline"),
        (["mor"], "did you mean 'more'"),
        ([], "add up to 8e.07 FLOPs"),
    ):
        raw["compare"]["references"] = references
        with pytest.raises(ValueError, match=message):
            warmstart.Study.model_validate(raw)


def test_what_cannot_be_composed_is_refused_before_anything_runs(tmp_path: Path) -> None:
    raw = composed_study(tmp_path / "c.jsonl")
    raw["arms"]["eft"][0]["evaluate"]["evaluators"] = ["relative-update"]
    with pytest.raises(ValueError, match="looks at weights"):
        warmstart.Study.model_validate(raw)
    raw = composed_study(tmp_path / "c.jsonl")
    raw["arms"]["eft"][0]["objective"] = "masked"
    with pytest.raises(ValueError, match="composes causal models, but the objective masked"):
        warmstart.Study.model_validate(raw)


@pytest.mark.slow
def test_a_study_of_compositions(tmp_path: Path) -> None:
    study = warmstart.Study.model_validate(composed_study(write_corpus(tmp_path / "c.jsonl")))
    console = Console(file=io.StringIO(), width=120)
    record = warmstart.study(study, slug="tiny", scale="laptop", out=tmp_path / "out", jobs=1, console=console)
    small, large = (record["sources"][name]["flops"][0] for name in ("small", "large"))
    arms = record["arms"]
    # before the first step nothing is learnt: the composition is the large source, whose end was measured
    lines = (tmp_path / "out/sources/large/seed-0/stages/00-stage/metrics.jsonl").read_text().splitlines()
    end = json.loads(lines[-1])["validation/loss"]
    assert arms["eft"]["curve"]["values"][0][0] == pytest.approx(end, abs=1e-4)
    assert arms["eft"]["curve"]["values"][0][0] == pytest.approx(arms["more"]["curve"]["values"][0][0], abs=1e-4)
    assert arms["eft"]["final"] != arms["scratch"]["final"]
    # it trains as the arm without a composition does, and reuses the large model too
    assert arms["eft"]["flops"] == arms["scratch"]["flops"]
    assert arms["scratch"]["reused_flops"] == pytest.approx([small])
    assert arms["eft"]["reused_flops"] == pytest.approx([small + large])
    assert set(record["effects"]) == {"eft"}
    assert record["references"] == ["more"]
    assert "validation/perplexity" in arms["eft"]["measured"]
    assert "validation/loss" not in arms["eft"]["measured"]


def test_stopping_waits_for_the_baseline_of_the_seed_and_for_all_earlier_seeds(tmp_path: Path) -> None:
    raw = stopping_study(tmp_path / "c.jsonl", seeds=3)
    tasks = plan(warmstart.Study.model_validate(raw), ["scratch", "a", "c"], 3, tmp_path / "out")
    assert [(t.name, t.seed) for t in tasks[:3]] == [("scratch", 0), ("scratch", 1), ("scratch", 2)]
    waits = {(t.name, t.seed): {(u.name, u.seed) for u in t.after} for t in tasks}
    assert waits[("scratch", 2)] == waits[("a", 0)] == set()
    assert waits[("c", 1)] == {("scratch", 0), ("a", 0), ("c", 0), ("scratch", 1)}
    assert len(waits[("a", 2)]) == 7
    apart = {**raw, "compare": raw["compare"] | {"references": ["c"]}}
    tasks = plan(warmstart.Study.model_validate(apart), ["scratch", "a", "c"], 3, tmp_path / "out")
    waits = {(t.name, t.seed): {(u.name, u.seed) for u in t.after} for t in tasks}
    assert waits[("a", 1)] == {("scratch", 0), ("a", 0), ("scratch", 1)}
    assert waits[("c", 1)] == set()
    raw["compare"]["stop"] = "never"
    assert not any(t.after for t in plan(warmstart.Study.model_validate(raw), ["scratch", "a"], 3, tmp_path / "out"))


@pytest.mark.slow
def test_an_arm_that_cannot_win_is_stopped_and_has_no_verdict(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl")
    raw = stopping_study(corpus)
    out, shown = tmp_path / "out", io.StringIO()

    def carry_out() -> Results:
        study = warmstart.Study.model_validate(raw)
        warmstart.study(study, slug="t", scale="x", out=out, jobs=2, console=Console(file=shown, width=140))
        return Results.load(out / "results.json")

    results = carry_out()
    arm = results.arms["c"]
    stop = arm.stopped[1]
    assert arm.stopped[0] is None
    assert stop is not None
    assert 0 < stop.share < 0.9
    assert 0 < stop.low <= stop.forecast
    assert arm.final[0] is not None
    assert arm.final[1] is None
    assert arm.flops[1] == stop.flops < 0.9 * arm.flops[0]
    assert arm.curve.axis("flops", 1)[-1] == stop.flops
    assert "c" not in results.effects
    assert {"a", "b"} >= set(results.effects)
    assert results.effects == results.recomputed()
    assert not (out / "arms/c/seed-1/stages/00-stage/model").exists()
    assert "finished 1 of 2" in shown.getvalue()
    assert any("'c', seed 1: stopped at" in remark and "no verdict" in remark for remark in results.remarks)
    assert any(remark.startswith("Stopping") and "saved" in remark for remark in results.remarks)
    page = (out / "report.html").read_text()
    assert "could not win any more" in page
    assert "stopped in " in page

    # nothing is run again, and a run that was not stopped is what it would have been without watching
    stamp = (out / "arms/c/seed-1/stopped.json").stat().st_mtime_ns
    assert carry_out().model_dump(exclude={"date"}) == results.model_dump(exclude={"date"})
    assert (out / "arms/c/seed-1/stopped.json").stat().st_mtime_ns == stamp

    # run again, it is stopped at the same step by the same numbers
    shutil.rmtree(out / "arms/c/seed-1")
    again = carry_out().arms["c"]
    assert again.stopped[1] is not None
    assert (again.stopped[1].flops, again.stopped[1].low) == (stop.flops, stop.low)
    assert again.curve.values == arm.curve.values

    # without stopping it goes on from its state to its end
    raw["compare"]["stop"] = "never"
    whole = carry_out()
    assert not whole.arms["c"].stopped
    assert whole.arms["c"].curve.values[1][: len(arm.curve.values[1])] == arm.curve.values[1]
    assert whole.effects["c"].difference.per_seed[1] is not None
    assert not (out / "arms/c/seed-1/stopped.json").exists()
