"""The catalog: what it reads from studies, and where it finds them and their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmstart import catalog
from warmstart.errors import RecipeError
from warmstart.recipe_text import read_file

STUDIES = {
    "weights/grow-a-lot": "title: Growing models\nidea: widen, train on\nclaim: {what: compute saved, value: 0.47}\n",
    "data/mixer": 'title: Mixing data online\npaper: {title: "Mixers", arxiv: "2001.00001", year: 2020}\n',
    "vision/eyes": (
        "title: Seeing with contrast\nmodality: image\nyours: {data: {says: x, sources: [shared.data.source]}}\n"
        "shared: {objective: causal, data: {source: [{type: files, path: a}, python-stdlib], curate: [length]}}\n"
        "arms: {one: [{init: {like: vit}, train: {schedule: {type: rewarm}}}], two: [{}]}\n"
    ),
}


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in STUDIES.items():
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "results" / "weights").mkdir(parents=True)
    (tmp_path / "results" / "weights" / "grow-a-lot.json").write_text("{}")
    monkeypatch.setattr(catalog, "STUDIES", tmp_path / "recipes")
    monkeypatch.setattr(catalog, "RESULTS", (tmp_path / "none", tmp_path / "results"))
    return tmp_path


def test_a_system_is_read_from_its_study(three):
    mixer, eyes, grow = catalog.systems()
    assert (grow.slug, grow.family, grow.title, grow.modality) == ("grow-a-lot", "weights", "Growing models", "text")
    assert grow.claim == {"what": "compute saved", "value": 0.47}
    assert grow.results == three / "results" / "weights" / "grow-a-lot.json"
    assert mixer.paper == {"title": "Mixers", "arxiv": "2001.00001", "year": 2020}
    assert mixer.results is None
    assert eyes.parts == ("causal", "files", "python-stdlib", "length", "vit", "rewarm")
    assert eyes.arms == ("one", "two")
    assert eyes.yours["data"]["sources"] == ["shared.data.source"]


def test_a_slug_comes_before_longer_ones_that_begin_with_it(three):
    for name in ("mixer-2", "mixer"):
        (three / "recipes" / "data" / f"{name}.yaml").write_text("title: x\n")
    assert [s.slug for s in catalog.systems() if s.family == "data"] == ["mixer", "mixer-2"]


def test_a_study_is_found_by_slug_family_or_file(three):
    for name in ("mixer", "data/mixer", str(three / "recipes" / "data" / "mixer.yaml")):
        assert catalog.study_file(name) == three / "recipes" / "data" / "mixer.yaml"
    with pytest.raises(
        RecipeError, match=r"no study 'mixr' \(did you mean 'mixer'\?\); studies: mixer, eyes, grow-a-lot"
    ):
        catalog.study_file("mixr")


@pytest.mark.parametrize("text", ["title: 3\nclaim: none\narms: [1]\npaper: 7\n", "title: x\n"])
def test_odd_headers_are_read_as_far_as_they_go(text, three):
    (three / "recipes" / "data" / "odd.yaml").write_text(text)
    odd = catalog.system(three / "recipes" / "data" / "odd.yaml")
    assert (odd.claim, odd.arms, odd.paper) == ({}, (), {})
    (three / "recipes" / "data" / "odd.yaml").write_text("- a list\n")
    with pytest.raises(RecipeError, match="a study is a mapping"):
        catalog.systems()


def test_the_packaged_systems_have_what_the_catalog_shows():
    for system in catalog.systems():
        assert system.title
        assert system.idea
        assert system.claim["what"]
        assert system.claim["where"]
        assert system.claim["arm"] in system.arms, f"{system.slug}: claim.arm is the arm whose verdict counts"
        assert system.paper["title"]
        assert "yours" in read_file(system.file).values, f"{system.slug}: say what of a user's own it takes, or `{{}}`"
