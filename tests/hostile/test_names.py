"""Names that become folders: stages, arms, sources, held-out sets, families; labels of sources that become files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from canary import EVIL_TEXT, fuzz
from hypothesis import strategies as st
from pydantic import ValidationError

from warmstart.data.export import export
from warmstart.data.sources.files import Files
from warmstart.errors import RecipeError, UserError
from warmstart.recipe import Recipe
from warmstart.recipe_data import Data
from warmstart.recipe_file import read_any, resolved
from warmstart.recipe_form import folder_name
from warmstart.recipe_study import Study
from warmstart.run_study import plan

BAD = {
    "up": "../x",
    "up on Windows": "..\\x",
    "a folder": "a/b",
    "absolute": "/etc/passwd",
    "absolute on Windows": "C:\\x",
    "a stream of Windows": "a:b",
    "itself": ".",
    "above": "..",
    "hidden": ".ssh",
    "nothing": "",
    "a zero byte": "a\0",
    "a line break": "a\nb",
    "a line break at the end": "a\n",
    "an escape": "a\x1b[31m",
    "a space": "a b",
    "an option": "-rf",
    "a star": "a*",
    "letters from elsewhere": "а",
    "too long": "a" * 65,
    "a device": "CON",
    "another device": "lpt1",
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_name_is_refused_wherever_it_becomes_a_folder(case: str) -> None:
    name = BAD[case]
    data: dict[str, Any] = {"source": "python-stdlib", "length": 32}
    stage: dict[str, Any] = {
        "init": {"like": "gpt2"}, "tokenizer": {"train": 300}, "data": data, "budget": {"flops": 1e9}
    }  # fmt: skip
    study: dict[str, Any] = {"title": "t", "compare": {"baseline": "a"}, "arms": {"a": [stage]}}
    assert Recipe.model_validate({"stages": [stage | {"name": "fine"}]})
    assert Study.model_validate(study)
    for form, values in (
        (Recipe, {"stages": [stage | {"name": name}]}),
        (Recipe, {"stages": [stage | {"evaluate": {"also": {name: {}}}}]}),
        (Study, study | {"arms": {"a": [stage], name: [stage]}}),
        (Study, study | {"sources": {name: [stage]}}),
        (Study, study | {"sources": {name: "folder/model"}}),
        (Study, study | {"scales": {name: {}}}),
        (Study, study | {"family": name}),
    ):
        with pytest.raises(ValidationError, match=r"must consist of letters|at most 64|Windows|valid string"):
            form.model_validate(values)


def test_the_line_of_a_bad_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(
        "title: t\ncompare: {baseline: a, flops: 1e9}\narms:\n"
        "  a: [{init: {like: gpt2}, tokenizer: {train: 300}, data: {source: python-stdlib}}]\n"
        '  "../../x": [{init: {like: gpt2}, tokenizer: {train: 300}, data: {source: python-stdlib}}]\n'
    )
    with pytest.raises(RecipeError) as caught:
        read_any(path)
    assert str(caught.value) == f"{path}:5: arms.../../x: the name '../../x' must consist of letters, digits, - and _"


def test_fuzz_names_that_are_taken_lie_where_they_should(tmp_path: Path) -> None:
    def check(name: str) -> None:
        try:
            folder_name(name)
        except ValueError:
            return
        folder = tmp_path / name
        assert folder.resolve().parent == tmp_path.resolve()
        folder.mkdir()
        folder.rmdir()

    fuzz(check, EVIL_TEXT | st.from_regex(r"\A[A-Za-z0-9._/-]{0,70}\Z"), examples=200)


def test_the_folders_of_a_study_lie_inside_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(
        "title: ../../t\ncompare: {baseline: a, flops: 1e9, seeds: 1}\n"
        "shared: {tokenizer: {train: 300}, data: {source: python-stdlib}}\n"
        "sources: {s: [{init: {like: gpt2}, budget: {flops: 1e9}}]}\n"
        "arms: {a: [{from: s, name: x}], b: [{init: {like: gpt2}}]}\n"
    )
    study = read_any(path)
    assert isinstance(study, Study)
    assert "../../t" in resolved(study)
    tasks = plan(study, ["a", "b"], 1, tmp_path / "out")
    assert len(tasks) == 3
    for task in tasks:
        assert (tmp_path / "out") in task.folder.resolve().parents


def test_a_label_with_half_a_character() -> None:
    """Found by the fuzzer."""
    with pytest.raises(ValidationError, match="half a character"):
        Files(path="a.txt", label="\ud800")


def test_fuzz_labels_of_sources_never_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text\n")
    runs = iter(range(10**9))

    def check(label: str) -> None:
        out = tmp_path / "out" / str(next(runs)) / "rows"
        try:
            export(Data(source=Files(path=str(tmp_path / "a.txt"), label=label), curate=[]), out)
        except (UserError, ValidationError):
            return
        names = {path.name for path in out.iterdir()}
        assert len(names) == 2
        assert {path.name for path in out.parent.iterdir()} == {"rows"}

    fuzz(check, EVIL_TEXT, examples=25)
