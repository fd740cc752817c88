"""A byte of any file of a run or of the cache flips: the run goes on and ends the same, or refuses in one line."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from faults.damage import files_of, flip
from faults.notes import Notes
from faults.runs import own_cache, result, two_stages
from kills import kill_at_step, run_killed

from warmstart.data.cache import entry, trouble_with
from warmstart.data.media import keep_media, read_media
from warmstart.errors import DataError, UserError
from warmstart.recipe import Recipe
from warmstart.run_recipe import run
from warmstart.train.progress import Reporter


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe, its result, a finished run, and one that was killed in its second stage."""
    folder = tmp_path_factory.mktemp("damage")
    cache = own_cache(folder)
    recipe = Recipe.model_validate(two_stages(folder / "text", learning_rate={"type": "probe", "min_steps": 4}))
    run(recipe, folder / "whole", reporter=Reporter())
    assert run_killed(recipe, folder / "killed", kill_at_step(8)), "the first stage"
    shutil.copytree(folder / "killed", folder / "killed-in-the-first")
    assert run_killed(recipe, folder / "killed", kill_in_second_stage)
    assert not (folder / "killed/stages/01-second/stage.json").exists()
    return {"recipe": recipe, "folder": folder, "cache": cache, "expected": result(folder / "whole")}


def kill_in_second_stage() -> None:
    from warmstart.train.loop import Training

    original = Training.clip

    def clip(self: Training):  # type: ignore[no-untyped-def]
        if self.counts.step == 8 and self.folder.name == "01-second":
            os.kill(os.getpid(), 9)
        return original(self)

    Training.clip = clip  # type: ignore[method-assign]


def attempt(recipe: Recipe, out: Path, expected: dict[str, Any]) -> tuple[str, list[str]]:
    """Resumes: ("the same" or the refusal, what was told). Another result, or another error, fails."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            run(recipe, out, reporter=Notes(told))
        except UserError as error:
            return str(error), told
    assert result(out) == expected
    return "the same", [*told, *(str(w.message) for w in warned)]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["killed", "whole"])
def test_a_byte_of_any_file_of_a_run(place: dict[str, Any], tmp_path: Path, which: str) -> None:
    draw, out = random.Random(which), tmp_path / "run"
    os.environ["WARMSTART_CACHE"] = str(place["cache"])
    outcomes = {}
    for file in files_of(place["folder"] / which):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(place["folder"] / which, out)
        where = flip(out / file, draw)
        outcome, told = attempt(place["recipe"], out, place["expected"])
        outcomes[str(file)] = outcome, [line for line in told if "broken" in line or "warning" in line]
        print(f"{file} at {where}: {outcome} {outcomes[str(file)][1]}")
    refused = {name: outcome for name, (outcome, _) in outcomes.items() if outcome != "the same"}
    assert set(refused) <= {"stages/01-second/settled.json"}, "whatever else is broken is made again"
    assert all("remove it, and the same is measured again" in line and "\n" not in line for line in refused.values())
    loud = [name for name, (_, told) in outcomes.items() if told]
    for name in ("stages/00-first/model/model.safetensors", "stages/00-first/lineage.json", "lineage.json"):
        assert name in loud
    assert any("state/" in name for name in loud) == (which == "killed")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["killed", "killed-in-the-first"])
def test_a_byte_of_any_file_of_the_cache(place: dict[str, Any], tmp_path: Path, which: str) -> None:
    draw, out, cache = random.Random(which), tmp_path / "run", tmp_path / "cache"
    os.environ["WARMSTART_CACHE"] = str(cache)
    files = files_of(place["cache"])
    assert {file.parts[0] for file in files} >= {"blocks", "rows", "tokenizers", "digests"}
    for file in files:
        for folder, kept in ((out, place["folder"] / which), (cache, place["cache"])):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(kept, folder)
        where = flip(cache / file, draw)
        outcome, told = attempt(place["recipe"], out, place["expected"])
        print(f"{file} at {where}: {outcome} {[line for line in told if 'broken' in line]}")
        assert outcome == "the same"
        # rows are not read again, and the second stage's tokenizer is that of the stage before
        read = ("blocks", "tokenizers") if which == "killed-in-the-first" else ("blocks",)
        assert any("broken" in line for line in told) or file.parts[0] not in read


def test_a_byte_of_a_picture_in_the_cache(tmp_path: Path) -> None:
    os.environ["WARMSTART_CACHE"] = str(tmp_path / "cache")
    kept = keep_media(b"a picture's bytes")
    assert read_media(kept) == b"a picture's bytes"
    flip(tmp_path / "cache" / kept.removeprefix("cache://"), random.Random(3))
    with pytest.raises(DataError, match="not what was kept there; remove the cache"):
        read_media(kept)
    entry(tmp_path / "cache/made/x", lambda draft: {"bytes": (draft / "media.bin").write_bytes(b"0123456789")})
    assert read_media("cache://made/x/media.bin#2+3") == b"234"
    flip(tmp_path / "cache/made/x/media.bin", random.Random(3))
    trouble_with.cache_clear()  # as in another process
    with pytest.raises(DataError, match="does not match its checksum; remove the cache"):
        read_media("cache://made/x/media.bin#2+3")


@pytest.mark.slow
def test_a_broken_last_state_is_not_replaced_by_the_one_before(place: dict[str, Any], tmp_path: Path) -> None:
    """The second stage goes on with what the first one's penalty left at its end, which no older state has."""
    draw, out = random.Random(2), tmp_path / "run"
    os.environ["WARMSTART_CACHE"] = str(place["cache"])
    shutil.copytree(place["folder"] / "killed", out)
    shutil.rmtree(out / "stages/01-second")
    newest = sorted((out / "stages/00-first/state").iterdir())[-1]
    flip(newest / "companions.safetensors", draw)
    outcome, _ = attempt(place["recipe"], out, place["expected"])
    assert "has no whole state of the finished stage" in outcome
    assert "remove " in outcome
    (out / "stages/00-first/stage.json").unlink()  # what the line says to do
    assert attempt(place["recipe"], out, place["expected"])[0] == "the same"
