"""Recipe files that somebody else wrote: bombs, depth, size, tags, and whatever a fuzzer makes of real ones."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from canary import EVIL_TEXT, changed_bytes, changed_values, fuzz, little_memory, nothing_run, refused_or_fine
from hypothesis import strategies as st

from warmstart.catalog import STUDIES
from warmstart.errors import RecipeError
from warmstart.recipe_file import read_any, read_recipe, read_study
from warmstart.recipe_text import MAX_DEPTH, read_file
from warmstart.run_recipe import run
from warmstart.yours import Given

RECIPE = """\
title: small
stages:
  - name: first
    init: {like: gpt2, n_embd: 32, n_layer: 2, n_head: 2}
    tokenizer: {train: 300}
    data:
      source: [{type: python-stdlib, label: a}, {type: files, path: "x/*.jsonl", columns: [url]}]
      curate: [exact-duplicates, {type: length, least: 3}]
      rewrite: [{type: template, template: "{text}"}]
      length: 32
      mix: {type: weighted, weights: {a: 0.5, files: 0.5}}
    objective: causal
    train: {learning_rate: 1e-3, batch_size: 4, schedule: {type: cosine, warmup: 0.1}}
    evaluate: {every: 0.5, also: {web: {source: python-stdlib}}}
    budget: {steps: 5}
  - data: {source: python-stdlib, length: 32}
    carry_on: true
    budget: {steps: 5}
"""
STUDY = """\
title: growth
compare: {baseline: scratch, flops: 1e10}
shared: {data: {source: python-stdlib, length: 32}, tokenizer: {train: 300}}
sources: {small: [{init: {like: gpt2}, budget: {flops: 1e9}}]}
arms:
  scratch: [{init: {like: gpt2}}]
  longer: [{from: small, data: {length: 64}}]
"""


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str | bytes) -> Path:
        path = tmp_path / "file.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def refusal(path: Path) -> str:
    """The one line of a refusal that took little time and memory."""
    start = time.process_time()
    with nothing_run(), little_memory(), pytest.raises(RecipeError) as caught:
        read_any(path)
    assert time.process_time() - start < 20
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def laughs(rounds: int) -> str:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for number in range(1, rounds):
        text += f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n"
    return text


def merged_laughs(rounds: int) -> str:
    text = "m0: &m0 {k0: 1, k1: 1}\n"
    for number in range(1, rounds):
        text += f"m{number}: &m{number} {{<<: [*m{number - 1}, *m{number - 1}], x{number}: [*m{number - 1}]}}\n"
    return text


MERGED = "".join(f"k{n}: &k{n} {{x{n}: 1}}\n" for n in range(9_000))
MERGED += f"all: {{<<: [{', '.join(f'*k{n}' for n in range(9_000))}]}}\n"
SHARED = STUDY.replace("length: 32}", f"length: 32, x: [{'1,' * 5_000}]}}").replace(
    "arms:\n", "arms:\n" + "".join(f"  a{n}: [{{}}]\n" for n in range(200))
)
SETS = RECIPE.replace("columns: [url]", f"columns: [{'a,' * 3_000}]").replace(
    "also: {web: {source: python-stdlib}}", f"also: {{{', '.join(f's{n}: {{}}' for n in range(3_000))}}}"
)

# what is wrong -> (the text, a fragment of the message)
BOMBS: dict[str, tuple[str, str]] = {
    "a billion laughs": (RECIPE + laughs(12), "aliases unfold to more than 50,000 values"),
    "laughing merges": (RECIPE + merged_laughs(40), "aliases unfold to more than 50,000 values"),
    "an alias inside its own anchor": (RECIPE + "a: &a [*a]\n", "refers to something that contains it"),
    "many values": (RECIPE + "x: [" + "1," * 60_000 + "]\n", ":19: more than 50,000 values"),
    "many lines": (RECIPE + "x:\n" + "- 1\n" * 60_000, "more than 50,000 values"),
    "a large file": ("# " + "x" * 1_100_000, "larger than 1 MB"),
    "deep lists": ("[" * 30_000, "nested too deeply"),
    "deep mappings": ("{a: " * 30_000, "nested too deeply"),
    "deep by indentation": ("".join(" " * n + "a:\n" for n in range(400)), "nested too deeply"),
    "deep by aliases": (
        RECIPE + "l0: &l0 [x]\n" + "".join(f"l{n}: &l{n} [*l{n - 1}]\n" for n in range(1, 200)),
        "nested too deeply",
    ),
    "many different keys merged": (
        RECIPE + MERGED,
        "more than 50,000 values",
    ),
    "a tag that makes an object": (RECIPE + "x: !!python/object/apply:os.system [id]\n", "is not allowed"),
    "a tag of one's own": (RECIPE + "x: !evil {a: 1}\n", "the tag '!evil' is not allowed"),
    "a long whole number": (RECIPE + f"seed: {'9' * 400}\n", "a whole number of more than 64 bits"),
    "a longer one": (RECIPE + f"seed: {'9' * 5_000}\n", "is not a value of the type int"),
    "one in hexadecimal": (RECIPE + f"seed: 0x{'f' * 5_000}\n", "a whole number of more than 64 bits"),
    "half a character": (RECIPE + 'x: "\\ud800"\n', "half a character"),
    "half a character as a key": (RECIPE + '"\\udc00": 1\n', "half a character"),
    "no such character": (RECIPE + 'x: "\\U00110000"\n', "not YAML"),
    "a control character": (RECIPE + "x: \x1b[31m\n", "not YAML: a control character"),
    "shared by very many": (
        SHARED,
        "unfolds to more than 500,000 values",
    ),
    "very many stages": (STUDY + "".join(f"  a{n}: [{{}}]\n" for n in range(400)), "403 stages in all; at most 300"),
    "data of very many sets": (
        SETS,
        "unfolds to more than 500,000 values",
    ),
    "stars that multiply": (
        STUDY
        + f"scales:\n  laptop:\n    shared.data: {{{', '.join(f'a{n}: 0' for n in range(100))}}}\n"
        + "".join(f"    shared.data{'.*' * n}: {{{', '.join(f'a{k}: 0' for k in range(100))}}}\n" for n in range(1, 5)),
        "would make more than 500,000 values",
    ),
    "a path without end": (STUDY + f"scales: {{laptop: {{{'a.' * 400}a: 1}}}}\n", "a path of 401 steps; at most 50"),
    "settings without end": (
        STUDY + "scales:\n  laptop:\n" + "".join(f"    shared.data.x{n}: 1\n" for n in range(15_000)),
        "settings on top of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_one_line(case: str, write: Any) -> None:
    text, fragment = BOMBS[case]
    assert fragment in refusal(write(text))


def test_what_is_just_small_enough_is_read(write: Any) -> None:
    """The limits are limits of size alone: the same shapes, smaller, are fine as YAML."""
    values = read_file(write(laughs(4) + "deep: " + "[" * (MAX_DEPTH - 2) + "]" * (MAX_DEPTH - 2) + "\n")).values
    assert len(values) == 5
    with pytest.raises(RecipeError, match="nested too deeply"):
        read_file(write("deep: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "\n"))


def test_sources_that_need_each_other_many_times_over(write: Any) -> None:
    """Each source needs the one before twice: looked at as a tree these are 2^60 ways."""
    stage = "{{init: {{like: gpt2}}, tokenizer: {{load: {0}}}, budget: {{flops: 1e9}}}}"
    chain = ["  s0: [{init: {like: gpt2}, budget: {flops: 1e9}}]\n"]
    chain += [f"  s{n}: [{stage.format(f's{n - 1}')}, {stage.format(f's{n - 1}')}]\n" for n in range(1, 61)]
    one = "sources: {small: [{init: {like: gpt2}, budget: {flops: 1e9}}]}\n"
    text = STUDY.replace(one, "sources:\n" + "".join(chain)).replace("from: small", "from: s60")
    study = read_study(write(text))
    assert study.needed(study.arms["longer"]) == [f"s{n}" for n in range(61)]


@pytest.mark.parametrize("key", ["('stae", "'stages", "sta'ges", '"stages', "st\\ages", "[stages"])
def test_nearly_the_right_key(key: str, write: Any) -> None:
    """Found by the fuzzer: an apostrophe in the key lost its line."""
    message = refusal(write(f"title: x\n{json.dumps(key)}: 1\n"))
    assert ":2: unknown field" in message
    assert "(did you mean 'stages'?)" in message


def test_many_problems_are_told_shortly(write: Any) -> None:
    with little_memory(), pytest.raises(RecipeError) as caught:
        read_recipe(write(RECIPE + "".join(f"f{n}: 1\n" for n in range(20_000))))
    lines = str(caught.value).split("\n")
    assert len(lines) == 21
    assert lines[-1] == "... and more problems"


def test_a_set_with_strange_steps_is_one_line(write: Any) -> None:
    path = write(RECIPE)
    for step in ("²", "--5", "9" * 5_000, "٣", "-0x1", "*" * 3):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path, [f"stages.{step}.budget.steps=1"])
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 5_000


@pytest.mark.parametrize("path", ["/dev/zero", "x" * 5_000, "~nobody/x", "a\0b", "/dev/stdin", "/proc/self/mem"])
def test_strange_paths_are_refused_where_they_are_opened(path: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmstart.run_recipe.commit", lambda: None)  # asks git
    for part in ("sources", "from", "like", "tokenizer"):
        stage: dict[str, Any] = {
            "init": {"like": path if part == "like" else "gpt2"},
            "tokenizer": {"load": path} if part == "tokenizer" else {"train": 300},
            "data": {"source": {"type": "files", "path": path if part == "sources" else "x.txt"}, "length": 8},
            "budget": {"steps": 1},
        }
        if part == "from":
            del stage["init"]
            stage["from"] = path
        recipe = read_recipe_of({"stages": [stage]})
        message = refused_or_fine(lambda recipe=recipe: run(recipe, tmp_path / "run", resume=False))
        assert message


def read_recipe_of(values: dict[str, Any]) -> Any:
    from warmstart.recipe import Recipe

    return Recipe.model_validate(values)


# ---- fuzzers -------------------------------------------------------------------------------------------------------

REAL = [STUDY, RECIPE, *(file.read_text(encoding="utf-8") for file in sorted(STUDIES.glob("*/*.yaml"))[::9])]
PIECES = st.sampled_from(
    ["- ", ": ", "\n", "  ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!!", "!x ", "|\n", ">-\n", "'", '"', "#", "?",
     "%YAML 1.2\n", "---\n", "...\n", "stages", "arms", "\t", "\\U0001F600", "\ufeff", "0x", "1e9"]
)  # fmt: skip


def read_twice(path: Path) -> None:
    """As a recipe or study, at another scale, and with somebody's own model and data put into it."""
    refused_or_fine(lambda: read_any(path))
    refused_or_fine(lambda: read_study(path, "smoke", given=Given("hub/name", ["x.jsonl", "{type: files, path: y}"])))


def test_fuzz_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_twice(path)

    pieces = st.lists(PIECES | st.text(max_size=5), max_size=40)
    fuzz(check, st.binary(max_size=200) | pieces.map(lambda found: "".join(found).encode("utf-8", "replace")))


def test_fuzz_changed_texts(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_twice(path)

    fuzz(check, st.sampled_from(REAL).flatmap(lambda text: changed_bytes(text.encode())))


def test_fuzz_changed_values(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    values = [yaml.safe_load(text) for text in REAL]

    def check(found: Any) -> None:
        path.write_text(yaml.safe_dump(found, allow_unicode=True), encoding="utf-8", errors="replace")
        read_twice(path)

    fuzz(check, st.sampled_from(range(len(values))).flatmap(lambda number: changed_values(values[number])))


def test_fuzz_settings(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    steps = st.lists(EVIL_TEXT | st.sampled_from(["stages", "0", "*", "data", "train", "source", "-1"]), max_size=5)
    text = st.tuples(steps.map(".".join), EVIL_TEXT).map("=".join)
    fuzz(lambda found: refused_or_fine(lambda: read_recipe(path, [found])) and None, text)
