"""Recipe, Stage and Study in Python: what is checked, and how mappings are laid on each other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from warmstart.recipe import Recipe
from warmstart.recipe_form import Misfit
from warmstart.recipe_merge import at_scale, merge, override
from warmstart.recipe_stage import Budget, Stage
from warmstart.recipe_study import Study

STAGE: dict[str, Any] = {
    "init": {"like": "gpt2"},
    "tokenizer": {"train": 300},
    "data": {"source": "python-stdlib"},
    "budget": {"steps": 3},
}


def study(**changes: Any) -> Study:
    raw: dict[str, Any] = {
        "title": "t",
        "compare": {"baseline": "a", "flops": 1e9},
        "shared": {key: STAGE[key] for key in ("tokenizer", "data")},
        "sources": {"small": [{"init": {"like": "gpt2"}, "budget": {"steps": 2}}]},
        "arms": {
            "a": [{"init": {"like": "gpt2"}}],
            "b": [{"from": "small", "budget": {"share": 0.25}}, {"name": "rest"}],
        },
    }
    return Study.model_validate(raw | changes)


def test_a_recipe_in_python_has_the_words_of_the_file():
    recipe = Recipe(
        stages=[
            Stage(
                init={"like": "gpt2", "n_embd": 32},
                tokenizer={"train": 300},
                data={"source": "python-stdlib"},
                budget={"steps": 3},
            )
        ]
    )
    assert recipe == Recipe.model_validate({"stages": [STAGE | {"init": {"like": "gpt2", "n_embd": 32}}]})
    assert recipe.stages[0].init.settings == {"n_embd": 32}
    assert recipe.stage_name(0) == "00-stage"
    assert Stage(from_="x").from_ == Stage.model_validate({"from": "x"}).from_ == "x"


def test_nothing_changes_after_the_check():
    recipe = Recipe.model_validate({"stages": [STAGE]})
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        recipe.stages[0].train.clip = None


def test_everything_that_a_recipe_lacks_is_said_at_once():
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"stages": [{"init": {"like": "gpt2"}}, {"budget": {"share": 0.5}}]})
    error = caught.value.errors()[0]["ctx"]["error"]
    assert isinstance(error, Misfit)
    assert [steps for steps, _ in error.problems] == [
        ("stages", 0),
        ("stages", 0),
        ("stages", 0),
        ("stages", 1),
        ("stages", 1, "budget", "share"),
    ]
    assert "stages.1: 'data' is missing" in str(error)


@pytest.mark.parametrize("unit", ["steps", "tokens", "flops", "seconds", "share"])
def test_a_budget_has_one_unit(unit):
    budget = Budget.model_validate({unit: 1})
    assert (budget.unit, budget.amount) == (unit, 1.0)


def test_a_study_gives_every_arm_the_same_flops():
    found = study()
    assert [s.budget.flops for s in found.recipe("a", seed=5).stages] == [1e9]
    assert [s.budget.flops for s in found.recipe("b", seed=5).stages] == [0.25e9, 0.75e9]
    assert found.recipe("b", seed=5).seed == 5
    assert found.recipe("b", seed=5).stages[0].from_ == "small"
    assert found.source_recipe("small", seed=1).stages[0].budget.steps == 2
    assert found.arms["a"][0].data.length == 128


def test_a_study_checks_its_sources_too():
    with pytest.raises(ValidationError, match=r"sources\.small\.0: 'budget' is missing"):
        study(sources={"small": [{"init": {"like": "gpt2"}}]})


def test_arms_may_be_a_percent_apart():
    near = {"a": [{"init": {"like": "gpt2"}}], "b": [{"from": "x", "budget": {"flops": 1.009e9}}]}
    far = {"a": [{"init": {"like": "gpt2"}}], "b": [{"from": "x", "budget": {"flops": 1.02e9}}]}
    assert study(arms=near)
    with pytest.raises(ValidationError, match=r"add up to 1\.02e\+09 FLOPs, not the 1e\+09"):
        study(arms=far)


# ---- merging and overriding


@pytest.mark.parametrize(
    ("base", "over", "result"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 4}}, {"a": 1, "b": {"c": 4, "d": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"o": {"type": "x", "k": 1}}, {"o": {"type": "y"}}, {"o": {"type": "y"}}),
        ({"o": {"type": "x", "k": 1}}, {"o": {"type": "x", "l": 2}}, {"o": {"type": "x", "k": 1, "l": 2}}),
        ({"o": {"type": "x", "k": 1}}, {"o": "y"}, {"o": "y"}),
        ({"o": "x"}, {"o": {"k": 1}}, {"o": {"type": "x", "k": 1}}),
        ({"o": "x"}, {"o": {"type": "y", "k": 1}}, {"o": {"type": "y", "k": 1}}),
        ({"init": {"like": "x", "k": 1}}, {"init": {"k": 2}}, {"init": {"like": "x", "k": 2}}),
        ({"init": {"like": "x", "k": 1}}, {"init": {"like": "y"}}, {"init": {"like": "y"}}),
        ({"init": {"like": "x"}, "s": 1}, {"from": "y"}, {"s": 1, "from": "y"}),
        ({"from": "y"}, {"init": {"like": "x"}}, {"init": {"like": "x"}}),
        ({"budget": {"steps": 1}}, {"budget": {"flops": 2}}, {"budget": {"flops": 2}}),
        ({"tokenizer": {"train": 300}}, {"tokenizer": {"load": "x"}}, {"tokenizer": {"load": "x"}}),
    ],
)
def test_merge(base, over, result):
    before = copy.deepcopy((base, over))
    assert merge(base, over) == result
    assert (base, over) == before, "what goes in is not changed"


@pytest.mark.parametrize(
    ("path", "value", "result"),
    [
        ("a.0.b", 5, {"a": [{"b": 5, "c": {"d": 1}}, {"b": 2}], "o": "x", "n": None}),
        ("a.-1.b", 5, {"a": [{"b": 1, "c": {"d": 1}}, {"b": 5}], "o": "x", "n": None}),
        ("a.*.b", 5, {"a": [{"b": 5, "c": {"d": 1}}, {"b": 5}], "o": "x", "n": None}),
        ("a.0.c", {"e": 2}, {"a": [{"b": 1, "c": {"d": 1, "e": 2}}, {"b": 2}], "o": "x", "n": None}),
        (
            "new.deep.key",
            5,
            {"a": [{"b": 1, "c": {"d": 1}}, {"b": 2}], "o": "x", "n": None, "new": {"deep": {"key": 5}}},
        ),
        ("o.rate", 5, {"a": [{"b": 1, "c": {"d": 1}}, {"b": 2}], "o": {"type": "x", "rate": 5}, "n": None}),
        ("n.k", 5, {"a": [{"b": 1, "c": {"d": 1}}, {"b": 2}], "o": "x", "n": {"k": 5}}),
    ],
)
def test_override(path, value, result):
    raw = {"a": [{"b": 1, "c": {"d": 1}}, {"b": 2}], "o": "x", "n": None}
    before = copy.deepcopy(raw)
    assert override(raw, path, value) == result
    assert raw == before, "what goes in is not changed"


@pytest.mark.parametrize("path", ["a.2.b", "a.-3", "a.x", "k.z"])
def test_override_says_how_far_it_came(path):
    with pytest.raises(KeyError) as caught:
        override({"a": [1, 2], "k": 3}, path, 5)
    assert path.startswith(caught.value.args[0])


def test_a_scale_keeps_the_list_of_scales():
    raw = {"compare": {"seeds": 3}, "scales": {"smoke": {"compare.seeds": 1}}}
    assert at_scale(raw, "smoke") == {"compare": {"seeds": 1}, "scales": raw["scales"]}
