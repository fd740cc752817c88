"""Bad input gets one clear line each: file, line, path, what was found, what is allowed, the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from warmstart.errors import RecipeError
from warmstart.recipe import Recipe
from warmstart.recipe_data import Data
from warmstart.recipe_file import read_any, read_recipe, read_study, resolved, sizes
from warmstart.recipe_study import Study

RECIPE = """\
title: small
stages:
  - init: {like: gpt2, n_embd: 32}
    tokenizer: {train: 300}
    data: {source: python-stdlib, length: 32}
    budget: {steps: 5}
"""

STUDY = """\
title: growth
compare:
  baseline: scratch
  flops: 1e10
shared:
  data:
    source: python-stdlib
    length: 32
  tokenizer: {train: 300}
arms:
  scratch:
    - init: {like: gpt2}
  longer:
    - from: scratch-model
      data: {length: 64}
scales:
  smoke:
    compare.seeds: 1
    shared.data.length: 16
    arms.longer.0.train: {batch_size: 2}
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str | bytes, name: str = "file.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def replaced(old: str, new: str, text: str = RECIPE) -> str:
    assert old in text
    return text.replace(old, new)


STAGE = "  - init: {like: gpt2, n_embd: 32}\n"
BUDGET = "    budget: {steps: 5}\n"
DATA = "    data: {source: python-stdlib, length: 32}\n"

# what is wrong -> (the text, the line that must be named, fragments of the message)
BAD: dict[str, tuple[str, int, list[str]]] = {
    "negative steps": (
        replaced("{steps: 5}", "\n      steps: -3"),
        7,
        ["stages.0.budget.steps: found -3; must be greater than 0"],
    ),
    "steps in words": (
        replaced("steps: 5", "steps: many"),
        6,
        ["stages.0.budget.steps: found 'many'; must be a whole number"],
    ),
    "half a step": (replaced("steps: 5", "steps: 2.5"), 6, ["found 2.5; must be a whole number"]),
    "no number": (replaced("steps: 5", "flops: .nan"), 6, ["stages.0.budget.flops", "found nan", "finite"]),
    "endless": (replaced("steps: 5", "seconds: .inf"), 6, ["stages.0.budget.seconds", "found inf", "finite"]),
    "share too big": (replaced("steps: 5", "share: 1.5"), 6, ["found 1.5; must be at most 1"]),
    "two budgets": (
        replaced("{steps: 5}", "{steps: 5, tokens: 100}"),
        6,
        [
            "stages.0.budget: a budget has exactly one of steps, tokens, flops, seconds",
            "found steps and tokens",
        ],
    ),
    "empty budget": (replaced("{steps: 5}", "{}"), 6, ["stages.0.budget", "found none"]),
    "share in a recipe": (
        replaced("steps: 5", "share: 0.5"),
        6,
        ["stages.0.budget.share", "only in a study"],
    ),
    "no budget": (
        replaced(BUDGET, ""),
        3,
        ["stages.0: 'budget' is missing", "steps, tokens, flops, seconds"],
    ),
    "no data": (replaced(DATA, ""), 3, ["stages.0: 'data' is missing"]),
    "no source": (replaced("source: python-stdlib, ", ""), 5, ["stages.0.data: 'source' is missing"]),
    "no sources": (
        replaced("python-stdlib", "[]"),
        5,
        ["stages.0.data.source: found 0 entries; must have at least 1"],
    ),
    "no start": (
        replaced(STAGE, "  - name: first\n"),
        3,
        ["stages.0: the first stage needs 'init'", "'from'"],
    ),
    "two starts": (
        replaced(STAGE, STAGE + "    from: elsewhere\n"),
        3,
        ["stages.0", "either from 'init' (new weights) or 'from' (existing weights), not both"],
    ),
    "no tokenizer": (replaced("    tokenizer: {train: 300}\n", ""), 3, ["stages.0", "needs a 'tokenizer'"]),
    "two tokenizers": (
        replaced("{train: 300}", "{train: 300, load: x}"),
        4,
        ["stages.0.tokenizer", "exactly one of 'train'"],
    ),
    "tiny vocabulary": (replaced("train: 300", "train: 10"), 4, ["found 10; must be at least 260"]),
    "no stages": (
        replaced(RECIPE[RECIPE.index("stages:") :], "stages: []\n"),
        2,
        ["stages: found 0 entries"],
    ),
    "stages as a mapping": (
        replaced(RECIPE[RECIPE.index("stages:") :], "stages: {first: {}}\n"),
        2,
        ["stages: found a mapping; must be a list"],
    ),
    "a stage in words": (RECIPE + "  - another\n", 7, ["stages.1: found 'another'; must be a mapping"]),
    "unknown field": (
        replaced("length: 32", "lenght: 32"),
        5,
        ["stages.0.data.lenght: unknown field 'lenght' (did you mean 'length'?)", "allowed: source, curate"],
    ),
    "unknown field at the top": (
        RECIPE + "sead: 3\n",
        7,
        ["sead: unknown field 'sead' (did you mean 'seed'?)"],
    ),
    "unknown part": (
        RECIPE + "    objective: casual\n",
        7,
        ["stages.0.objective: unknown objectives part 'casual' (did you mean 'causal'?); known: ", "masked"],
    ),
    "unknown part by type": (
        RECIPE + "    objective:\n      type: maskd\n",
        8,
        ["stages.0.objective.type: unknown objectives part 'maskd' (did you mean 'masked'?)"],
    ),
    "a part without a type": (
        RECIPE + "    train: {optimizer: {weight_decay: 0.1}}\n",
        7,
        ["stages.0.train.optimizer: a part of the optimizers needs a 'type'; known: ", "adamw"],
    ),
    "a part as a number": (
        RECIPE + "    train:\n      schedule: 3\n",
        8,
        ["stages.0.train.schedule: found 3; must be the name of a part of the room 'schedules'"],
    ),
    "a part's unknown setting": (
        RECIPE + "    train:\n      optimizer:\n        type: adamw\n        weight_decy: 1\n",
        10,
        ["stages.0.train.optimizer.weight_decy: unknown field", "did you mean 'weight_decay'?"],
    ),
    "a part's bad setting": (
        RECIPE + "    train: {optimizer: {type: adamw, weight_decay: heavy}}\n",
        7,
        ["stages.0.train.optimizer.weight_decay: found 'heavy'; must be a number"],
    ),
    "a part in a list": (
        RECIPE + "    evaluate:\n      evaluators:\n        - held-out\n        - held-in\n",
        10,
        ["stages.0.evaluate.evaluators.1: unknown evaluate part 'held-in' (did you mean 'held-out'?)"],
    ),
    "a source in a list": (
        replaced("python-stdlib", "[python-stdlib, python-stdlb]"),
        5,
        ["stages.0.data.source.1: unknown sources part 'python-stdlb' (did you mean 'python-stdlib'?)"],
    ),
    "one of several forms, wrong inside": (
        replaced("python-stdlib", "{type: files, path: [a.txt, 3]}"),
        5,
        ["stages.0.data.source.path.1: found 3; must be text; put it in quotes"],
    ),
    "none of several forms": (
        replaced("python-stdlib", "{type: files, path: {a: b}}"),
        5,
        ["stages.0.data.source.path: found a mapping; must be text or a list"],
    ),
    "unknown choice": (
        replaced("length: 32", "on_error: skipp"),
        5,
        ["stages.0.data.on_error: found 'skipp'; must be 'raise' or 'skip' (did you mean 'skip'?)"],
    ),
    "text for a list": (
        RECIPE + "    train: {trackers: tensorboard}\n",
        7,
        ["stages.0.train.trackers: found 'tensorboard'; must be a list"],
    ),
    "a number for text": (
        replaced("title: small", "title: 2110.07143"),
        1,
        ["title: found 2110.07143", "quotes"],
    ),
    "a list for a mapping": (
        replaced("{source: python-stdlib, length: 32}", "[python-stdlib]"),
        5,
        ["stages.0.data: found a list; must be a mapping"],
    ),
    "neither true nor false": (
        RECIPE + "    train: {compile: sometimes}\n",
        7,
        ["stages.0.train.compile: found 'sometimes'; must be true or false"],
    ),
    "an indivisible batch": (
        RECIPE + "    train:\n      batch_size: 5\n      accumulate: 2\n",
        7,
        ["stages.0.train: batch_size 5 is not divisible by accumulate 2"],
    ),
    "a name with a slash": (
        RECIPE + "    name: a/b\n",
        7,
        ["stages.0.name: found 'a/b'", "must consist of letters, digits, - and _"],
    ),
    "a name twice": (
        RECIPE + "    name: x\n  - name: x\n" + DATA + BUDGET,
        8,
        ["stages.1.name: the name 'x' is already used by stage 0"],
    ),
    "a number as a key": (RECIPE + "3: 4\n", 7, ["the key 3; must be text"]),
    "a key twice": (RECIPE + "title: again\n", 7, ["the key 'title' is already given in line 1"]),
    "a key twice inside": (
        replaced("{steps: 5}", "{steps: 5, steps: 6}"),
        6,
        ["the key 'steps' is already given in line 6"],
    ),
    "a list as a key": (RECIPE + "[a, b]: 4\n", 7, ["a key must be text"]),
    "a tab": (replaced("    budget: {steps: 5}", "    budget:\n\t  steps: 5"), 7, ["not YAML", "not tabs"]),
    "an open bracket": (RECIPE + "    surgery: [a\n", 8, ["not YAML"]),
    "two documents": (RECIPE + "---\na: 1\n", 7, ["not YAML", "another document"]),
    "an unknown alias": (replaced("{steps: 5}", "*short"), 6, ["undefined alias 'short'"]),
    "an object": (RECIPE + "seed: !!python/object/apply:os.getpid []\n", 7, ["the tag", "is not allowed"]),
    "a local tag": (RECIPE + "seed: !mine 3\n", 7, ["the tag '!mine' is not allowed"]),
    "an alias of itself": (RECIPE + "seed: &a [*a]\n", 7, ["an alias refers to something that contains it"]),
    "a bad merge": (replaced("{steps: 5}", "{<<: 3, steps: 5}"), 6, ["'<<' takes a mapping"]),
    "a control character": (RECIPE + "seed: \x07\n", 7, ["not YAML", "control character"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_with_its_line(case, write):
    text, line, fragments = BAD[case]
    path = write(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def test_the_recipe_that_the_cases_start_from_is_fine(write):
    recipe = read_recipe(write(RECIPE))
    assert recipe.stages[0].budget.steps == 5
    assert recipe.stages[0].data.length == 32


def test_every_problem_has_a_line_of_its_own_in_the_order_of_the_file(write):
    path = write(RECIPE.replace("steps: 5", "steps: -5").replace("length: 32", "lenght: 1") + "sede: 1\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in lines] == ["5", "6", "7"]


def test_files_that_cannot_be_read(tmp_path, write):
    cases = {
        tmp_path / "absent.yaml": "there is no file",
        tmp_path: "is a folder",
        write(b"title: a\nstages: \xff\xfe\n", "latin.yaml"): "latin.yaml:2: not UTF-8",
        write("", "empty.yaml"): "is empty",
        write("# a comment\n", "comment.yaml"): "is empty",
        write("- a\n- b\n", "list.yaml"): "list.yaml:1: found a list",
        write("stages\n", "word.yaml"): "word.yaml:1: found a single value",
        write("x" * 2_100_000, "large.yaml"): "larger than 1 MB",
        write("[" * 5000, "deep.yaml"): "nested too deeply",
        write("title: a\n", "nothing.yaml"): "'stages' is missing",
        write("stagse: []\n", "typo.yaml"): "typo.yaml:1: unknown field 'stagse' (did you mean 'stages'?)",
        write(STUDY, "study.yaml"): "it is a study; use: warmstart study",
    }
    for path, fragment in cases.items():
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        assert fragment in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="it is a recipe; use: warmstart run"):
        read_study(write(RECIPE))


def test_aliases_that_unfold_without_end_are_refused(write):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(RecipeError, match="aliases unfold to more than 50,000 values"):
        read_recipe(write(RECIPE + bomb))
    merges = "m0: &m0 {a: 1}\n" + "".join(
        f"m{n}: &m{n} {{k{n}: [*m{n - 1}, *m{n - 1}, *m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 20)
    )
    with pytest.raises(RecipeError, match="aliases unfold"):
        read_recipe(write(RECIPE + merges))


def test_aliases_and_merged_mappings_work_and_keep_their_lines(write):
    text = """\
stages:
  - init: &small {like: gpt2, n_embd: 32}
    tokenizer: {train: 300}
    data: &data {source: python-stdlib, length: 4}
    budget: {steps: 5}
  - init: {<<: *small, n_embd: 64}
    tokenizer: {train: 300}
    data: *data
    budget: {steps: 5}
"""
    path = write(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert str(caught.value).splitlines() == [
        f"{path}:4: stages.{n}.data.length: found 4; must be at least 8" for n in (0, 1)
    ]
    recipe = read_recipe(path, ["stages.*.data.length=16"])
    assert [stage.init.settings for stage in recipe.stages] == [{"n_embd": 32}, {"n_embd": 64}]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e13", 3e13), ("3.0e+13", 3e13), ("1E6", 1e6), (".5e1", 5.0), ("12", 12.0), ("1_000", 1000.0)],
)
def test_scientific_numbers_are_numbers(text, value, write):
    path = write(RECIPE.replace("steps: 5", f"flops: {text}"))
    assert read_recipe(path).stages[0].budget.flops == value


def test_text_stays_text(write):
    text = RECIPE.replace("n_embd: 32", "n_embd: 32, a: '3e13', b: 2020-01-01, c: 1:30, d: no, e: 010")
    assert read_recipe(write(text)).stages[0].init.settings == {
        "n_embd": 32,
        "a": "3e13",
        "b": "2020-01-01",
        "c": "1:30",
        "d": False,
        "e": "010",
    }


# ---- --set


@pytest.mark.parametrize(
    ("text", "get", "value"),
    [
        ("stages.0.budget.steps=10", lambda r: r.stages[0].budget.steps, 10),
        (
            "stages.0.budget.flops=3e13",
            lambda r: (r.stages[0].budget.unit, r.stages[0].budget.flops),
            ("flops", 3e13),
        ),
        (
            "stages.0.budget={tokens: 7}",
            lambda r: (r.stages[0].budget.unit, r.stages[0].budget.tokens),
            ("tokens", 7),
        ),
        ("stages.-1.budget.steps=9", lambda r: r.stages[0].budget.steps, 9),
        ("stages.*.budget.steps=9", lambda r: r.stages[0].budget.steps, 9),
        ("title=a=b", lambda r: r.title, "a=b"),
        ("seed=7", lambda r: r.seed, 7),
        ("stages.0.name=null", lambda r: r.stages[0].name, None),
        ("stages.0.train.compile=true", lambda r: r.stages[0].train.compile, True),
        ("stages.0.train.trackers=[a, b]", lambda r: r.stages[0].train.trackers, ["a", "b"]),
        ("stages.0.init={n_layer: 2}", lambda r: r.stages[0].init.settings, {"n_embd": 32, "n_layer": 2}),
        ("stages.0.from=folder", lambda r: (r.stages[0].init, r.stages[0].from_), (None, "folder")),
        ("stages.0.objective=masked", lambda r: r.stages[0].objective.name, "masked"),
        ("stages.0.data.split.validation=0.5", lambda r: r.stages[0].data.split.validation, 0.5),
    ],
)
def test_set_puts_a_value_on_top(text, get, value, write):
    assert get(read_recipe(write(RECIPE), [text])) == value


def test_settings_can_be_set_on_a_bare_part_name(write):
    path = write(RECIPE + "    train: {optimizer: adamw}\n")
    recipe = read_recipe(path, ["stages.0.train.optimizer.weight_decay=0.25"])
    assert recipe.stages[0].train.optimizer.weight_decay == 0.25


def test_later_sets_win(write):
    assert read_recipe(write(RECIPE), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages.0.budget.steps=-3", "--set stages.0.budget.steps=-3: found -3; must be greater than 0"),
        (
            "stages.0.budget={steps: -3}",
            "--set stages.0.budget={steps: -3}: stages.0.budget.steps: found -3; must be greater than 0",
        ),
        (
            "stages.*.data.length=2",
            "--set stages.*.data.length=2: stages.0.data.length: found 2; must be at least 8",
        ),
        ("stages.0.data=word", "--set stages.0.data=word: found 'word'; must be a mapping"),
        ("stages.0.objective=casual", "--set stages.0.objective=casual: unknown objectives part 'casual'"),
        (
            "stages.0.budgt.steps=3",
            "--set stages.0.budgt.steps=3: stages.0.budgt: unknown field 'budgt' (did you mean 'budget'?)",
        ),
        (
            "stages.7.name=x",
            "--set stages.7.name=x: there is no 'stages.7'; the list has 1 entries, counted from 0",
        ),
        ("stages.first.name=x", "--set stages.first.name=x: there is no 'stages.first'"),
        ("seed.x=1", "--set seed.x=1: "),
        ("seed=[", "--set seed=[: not YAML"),
        ("seed", "--set seed: expected key=value"),
        ("=3", "--set =3: expected key=value"),
        ("stages..0=3", "--set stages..0=3: expected key=value"),
        ("seed=!!python/name:os.system", "--set seed=!!python/name:os.system: the tag"),
        ("stages=[]", "--set stages=[]: found 0 entries; must have at least 1"),
        (
            "stages.0.data={split: {validation: 2}}",
            "stages.0.data.split.validation: found 2; must be less than 1",
        ),
    ],
)
def test_bad_sets_are_named_as_they_were_given(text, message, write):
    with pytest.raises(RecipeError) as caught:
        read_recipe(write(RECIPE + "seed: 3\n"), [text])
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set ")
    assert "\n" not in str(caught.value)


def test_sizes_of_an_option():
    assert sizes(["hidden_size=512", "n=1_000"], "--to") == {"hidden_size": 512, "n": 1000}
    for text, message in {
        "hidden_size": "--to hidden_size: expected key=value",
        "a=x": "--to a=x: found 'x'; must be a whole number greater than 0",
        "a=0": "--to a=0: found 0",
        "a=true": "--to a=true: found True",
        "a=1.5": "--to a=1.5: found 1.5",
    }.items():
        with pytest.raises(RecipeError) as caught:
            sizes([text], "--to")
        assert str(caught.value).startswith(message)
    with pytest.raises(RecipeError, match="'a' is given twice"):
        sizes(["a=1", "a=2"], "--to")


# ---- studies


def test_a_study_merges_what_is_shared(write):
    study = read_study(write(STUDY))
    assert study.arms["scratch"][0].data.length == 32
    assert study.arms["longer"][0].data.length == 64
    assert study.compare.seeds == 3


def test_a_scale_lies_on_top_and_set_on_top_of_that(write):
    path = write(STUDY)
    study = read_study(path, "smoke")
    assert (study.compare.seeds, study.arms["scratch"][0].data.length) == (1, 16)
    assert study.arms["longer"][0].data.length == 64
    assert study.arms["longer"][0].train.batch_size == 2
    assert read_study(path, "smoke", ["compare.seeds=5"]).compare.seeds == 5
    assert read_study(path, "laptop") == read_study(path, None)


BAD_STUDIES: dict[str, tuple[str, str | None, str]] = {
    "unknown baseline": (
        STUDY.replace("baseline: scratch", "baseline: scrach"),
        None,
        ":3: compare.baseline: found 'scrach' (did you mean 'scratch'?); must be one of the arms",
    ),
    "no baseline": (STUDY.replace("  baseline: scratch\n", ""), None, ":2: compare: 'baseline' is missing"),
    "no compare": (
        STUDY.replace(STUDY[STUDY.index("compare:") : STUDY.index("shared:")], ""),
        None,
        ":1: 'compare' is missing",
    ),
    "no arms": (STUDY[: STUDY.index("arms:")] + "arms: {}\n", None, ":10: arms: found 0 entries"),
    "an arm without stages": (
        STUDY.replace("scales:", "  none: []\nscales:"),
        None,
        ":16: arms.none: has no stages",
    ),
    "a fault in shared": (
        STUDY.replace("length: 32", "length: 2"),
        None,
        ":8: shared.data.length: found 2; must be at least 8",
    ),
    "an unknown field in shared": (
        STUDY.replace("length: 32", "lenght: 32"),
        None,
        ":8: shared.data.lenght: unknown field 'lenght' (did you mean 'length'?)",
    ),
    "a fault in an arm": (
        STUDY.replace("length: 64", "length: 2"),
        None,
        ":15: arms.longer.0.data.length: found 2; must be at least 8",
    ),
    "something missing in shared": (
        STUDY.replace("    source: python-stdlib\n", ""),
        None,
        ":6: shared.data: 'source' is missing",
    ),
    "a fault in a scale": (
        STUDY.replace("compare.seeds: 1", "compare.seeds: 0"),
        "smoke",
        ":18: scales.smoke.compare.seeds: found 0; must be greater than 0",
    ),
    "a fault inside a scale's mapping": (
        STUDY.replace("batch_size: 2", "batch_size: 0"),
        "smoke",
        ":20: scales.smoke.arms.longer.0.train.batch_size: found 0; must be greater than 0",
    ),
    "a scale's fault in shared": (
        STUDY.replace("shared.data.length: 16", "shared.data.length: 1"),
        "smoke",
        ":19: scales.smoke.shared.data.length: found 1; must be at least 8",
    ),
    "a scale's path that leads nowhere": (
        STUDY.replace("arms.longer.0.train", "arms.longer.5.train"),
        "smoke",
        ":20: scales.smoke.arms.longer.5.train: there is no 'arms.longer.5'; the list has 1 entries",
    ),
    "unknown scale": (
        STUDY,
        "smok",
        ": there is no scale 'smok' (did you mean 'smoke'?); scales: smoke, laptop",
    ),
    "a scale that is no mapping": (
        STUDY + "  tiny: 3\n",
        "tiny",
        ":21: scales.tiny: found 3; must be a mapping",
    ),
    "scales that are no mapping": (
        STUDY[: STUDY.index("scales:")] + "scales: 3\n",
        "smoke",
        ": there is no scale 'smoke'",
    ),
    "no budget at all": (
        STUDY.replace("  flops: 1e10\n", ""),
        None,
        ":11: arms.scratch.0: 'budget' is missing: one of steps, tokens, flops, seconds (or, in a study,",
    ),
    "unequal budgets": (
        STUDY.replace("data: {length: 64}", "budget: {flops: 2e10}"),
        None,
        ":13: arms.longer: its stages' budgets add up to 2e+10 FLOPs, not the 1e+10 of every arm",
    ),
    "budgets in steps": (
        STUDY.replace("  flops: 1e10\n", "").replace("length: 32", "length: 32\n  budget: {steps: 3}"),
        None,
        ":11: arms.scratch: equal-flops needs budgets in flops",
    ),
    "shares that leave nothing": (
        STUDY.replace("data: {length: 64}", "budget: {share: 1}\n    - name: rest"),
        None,
        ":13: arms.longer: the stages' shares leave nothing",
    ),
    "unknown arms to run": (
        STUDY.replace("  flops: 1e10", "  flops: 1e10\n  arms: [scratch, long]"),
        None,
        ":5: compare.arms.1: found 'long'",
    ),
    "a number as an arm's name": (STUDY.replace("  longer:", "  16:"), None, ":13: "),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_bad_studies_are_named_with_their_line(case, write):
    text, scale, message = BAD_STUDIES[case]
    path = write(text)
    with pytest.raises(RecipeError) as caught:
        read_study(path, scale)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{path}{message}"), str(caught.value)


def test_a_set_on_shared_is_named(write):
    path = write(STUDY)
    with pytest.raises(RecipeError) as caught:
        read_study(path, None, ["shared.data.length=1"])
    assert str(caught.value) == "--set shared.data.length=1: found 1; must be at least 8"
    # what an arm says itself is not changed by what is shared
    assert read_study(path, None, ["shared.data.length=40"]).arms["longer"][0].data.length == 64


def test_a_study_by_its_slug():
    study = read_study("bert2bert", "smoke")
    assert isinstance(study, Study)
    assert read_study("weights/bert2bert", "smoke") == study
    with pytest.raises(RecipeError, match=r"no study 'bert2brt' \(did you mean 'bert2bert'\?\); studies: .*bert2bert"):
        read_study("bert2brt")
    with pytest.raises(RecipeError, match=r"there is no file 'bert2bert.yaml'"):
        read_study("bert2bert.yaml")


def test_any_file(write):
    assert isinstance(read_any(write(RECIPE)), Recipe)
    assert isinstance(read_any(write(STUDY)), Study)
    with pytest.raises(RecipeError, match="'stages' is missing"):
        read_any(write("title: x\n"))


# ---- the resolved form


def test_the_resolved_recipe_reads_back_equal(write):
    text = (
        RECIPE
        + """\
    train: {clip: null, trackers: [], schedule: cosine, learning_rate: 1e-5}
    objective: {type: masked}
  - name: second
    from: "3e13"
    data: {source: [python-stdlib, {type: python-stdlib}], curate: []}
    budget: {flops: 3e13}
seed: 3
"""
    )
    recipe = read_recipe(write(text))
    again = resolved(recipe)
    assert recipe.stages[0].train.clip is None
    assert recipe.stages[1].from_ == "3e13"
    assert read_recipe(write(again, "again.yaml")) == recipe
    assert "from: '3e13'" in again
    assert resolved(read_recipe(write(again, "again.yaml"))) == again
    other = yaml.safe_load(again)  # readers with YAML 1.1 rules see the same values
    assert other["stages"][1]["budget"]["flops"] == 3e13
    assert other["stages"][0]["train"]["learning_rate"] == 1e-5


@pytest.mark.parametrize("scale", [None, "smoke"])
def test_the_resolved_study_reads_back_equal(scale, write):
    study = read_study(write(STUDY), scale)
    assert read_study(write(resolved(study), "again.yaml"), None) == study


def test_an_arm_that_turns_off_what_is_shared_stays_so(write):
    text = STUDY.replace("data: {length: 64}", "tokenizer: null\n      data: {max_documents: null}")
    study = read_study(write(text.replace("length: 32", "max_documents: 3")), None)
    assert study.arms["longer"][0].tokenizer is None
    assert study.arms["longer"][0].data.max_documents is None
    assert read_study(write(resolved(study), "again.yaml"), None) == study


@pytest.mark.parametrize("scale", ["smoke", "demo", "laptop", "gpu"])
def test_the_packaged_study_resolves_at_every_scale(scale, write):
    study = read_study("bert2bert", scale)
    assert read_study(write(resolved(study)), None) == study


# ---- the documentation

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["recipes.md", "tutorial.md"])
def test_the_examples_of_the_documentation_are_fine(page, write):
    blocks = (DOCS / page).read_text(encoding="utf-8").split("```yaml\n")[1:]
    assert blocks
    for block in blocks:
        read_any(write(block.split("```")[0]))


FURTHER = replaced(
    "    budget: {steps: 5}\n",
    "    budget: {steps: 5}\n    evaluate: {also: {old: {source: {type: files, path: old.txt}}, long: {length: 64}}}\n",
)


def test_a_further_held_out_set_says_only_what_is_different(write):
    stage = read_recipe(write(FURTHER)).stages[0]
    old, long = stage.evaluate.also["old"], stage.evaluate.also["long"]
    assert (old.source.name, old.length) == ("files", 32)
    assert (long.source.name, long.length) == ("python-stdlib", 64)
    assert stage.data.length == 32


def test_a_further_held_out_set_replaces_lists_whole(write):
    data = "{source: python-stdlib, curate: [exact-duplicates], length: 32}"
    text = replaced("{source: python-stdlib, length: 32}", data, FURTHER).replace(
        "long: {length: 64}", "raw: {curate: []}"
    )
    assert read_recipe(write(text)).stages[0].evaluate.also["raw"].curate == []


@pytest.mark.parametrize("limit", ["", ", max_documents: 7"])
def test_further_held_out_sets_survive_being_resolved(limit, write):
    """Also where a set takes back to nothing what the stage's own data say."""
    text = FURTHER.replace("length: 32}", f"length: 32{limit}}}").replace("length: 64", "max_documents: null")
    recipe = read_recipe(write(text))
    assert recipe.stages[0].evaluate.also["long"].max_documents is None
    assert read_recipe(write(resolved(recipe))) == recipe


def test_a_studys_shared_data_lie_under_an_arms_further_held_out_set(write):
    study = "arms:\n  scratch:\n    - init: {like: gpt2}\n      evaluate: {also: {old: {max_documents: 3}}}\n"
    read = read_study(write(replaced("arms:\n  scratch:\n    - init: {like: gpt2}\n", study, STUDY)), "smoke")
    old = read.arms["scratch"][0].evaluate.also["old"]
    assert (old.source.name, old.length, old.max_documents) == ("python-stdlib", 16, 3)
    assert read_study(write(resolved(read)), None).arms == read.arms


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("long: {length: 64}", "validation: {}", "7: stages.0.evaluate.also.*'validation' is what other metrics"),
        ("long: {length: 64}", "a/b: {}", "7: stages.0.evaluate.also.*'a/b' must consist of"),
        (
            "long: {length: 64}",
            "long: {lenght: 64}",
            "file.yaml:7: stages.0.evaluate.also.long.lenght: unknown.*'length'",
        ),
        ("long: {length: 64}", "long: {length: 1}", "file.yaml:7: stages.0.evaluate.also.long.length: found 1"),
        ("length: 32", "length: 1", r"file.yaml:5: stages.0.data.length: found 1; must be at least 8$"),
        ("length: 32", "lenght: 32", r"file.yaml:5: stages.0.data.lenght: unknown field[^\n]*$"),
    ],
)
def test_what_is_wrong_with_a_further_held_out_set_is_said_once(old, new, message, write):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(write(replaced(old, new, FURTHER)))
    assert len(str(caught.value).splitlines()) == 1


def test_the_example_of_the_way_of_a_row_is_fine():
    block = (DOCS / "data.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    data = Data.model_validate(yaml.safe_load(block)["data"])
    assert [source.label or source.name for source in data.sources] == ["kernel-docs", "mine", "theirs"]


def test_an_objective_may_ask_for_a_packing(write):
    text = replaced("    budget: {steps: 5}\n", "    objective: contrastive\n    budget: {steps: 5}\n")
    with pytest.raises(RecipeError, match=r"stages\.0\.data.*packing: found 'concat', but the objective contrastive"):
        read_recipe(write(text))
    assert (
        read_recipe(write(text.replace("length: 32}", "length: 32, packing: rows}"))).stages[0].data.packing.whole_rows
    )
