"""The catalog: what it reads from studies and results, and how it is searched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from warmstart import catalog
from warmstart.errors import RecipeError

STUDIES = {
    "weights/grow-a-lot": "title: Growing models\nidea: widen, train on\nclaim: {what: compute saved, value: 0.47}\n",
    "data/mixer": 'title: Mixing data online\npaper: {title: "Mixers", arxiv: "2001.00001", year: 2020}\n',
    "vision/eyes": "title: Seeing with contrast\nmodality: image\nclaim: {what: speed-up, value: 2.5, where: a ViT}\n",
}


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in STUDIES.items():
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    results = tmp_path / "results" / "weights"
    results.mkdir(parents=True)
    effects = {arm: {"verdict": verdict} for arm, verdict in zip("abc", ["holds", "holds", "unclear"], strict=True)}
    (results / "grow-a-lot.json").write_text(json.dumps({"scale": "laptop", "effects": effects}))
    monkeypatch.setattr(catalog, "STUDIES", tmp_path / "recipes")
    monkeypatch.setattr(catalog, "RESULTS", (tmp_path / "results",))
    return tmp_path


def test_a_system_is_read_from_its_study_and_its_results(three):
    mixer, eyes, grow = catalog.systems()
    assert (grow.slug, grow.family, grow.title) == ("grow-a-lot", "weights", "Growing models")
    assert grow.claim == "compute saved 47 %"
    assert grow.verdict == "holds 2, unclear 1 (laptop)"
    assert grow.verdicts == {"a": "holds", "b": "holds", "c": "unclear"}
    assert mixer.paper == "Mixers, arXiv 2001.00001, 2020"
    assert mixer.verdict == "not run"
    assert eyes.claim == "speed-up 2.5 (a ViT)"


@pytest.mark.parametrize(
    ("query", "slugs"),
    [
        ("", ["mixer", "eyes", "grow-a-lot"]),
        ("grow", ["grow-a-lot"]),
        ("grows", ["grow-a-lot"]),
        ("Growing", ["grow-a-lot"]),
        ("mix data", ["mixer"]),
        ("mix vision", []),
        ("image", ["eyes"]),
        ("2001.00001", ["mixer"]),
        ("training", ["grow-a-lot"]),
        ("holds", ["grow-a-lot"]),
        ("quantum", []),
    ],
)
def test_search(query, slugs, three):
    assert [system.slug for system in catalog.search(query)] == slugs


def test_a_match_in_the_name_comes_before_one_in_the_text(three):
    (three / "recipes" / "data" / "about.yaml").write_text("title: a\nidea: like grow-a-lot, but for data\n")
    assert [system.slug for system in catalog.search("grow lot")] == ["grow-a-lot", "about"]


def test_a_study_is_found_by_slug_family_or_file(three):
    for name in ("mixer", "data/mixer", str(three / "recipes" / "data" / "mixer.yaml")):
        assert catalog.study_file(name) == three / "recipes" / "data" / "mixer.yaml"
    with pytest.raises(
        RecipeError, match=r"no study 'mixr' \(did you mean 'mixer'\?\); studies: mixer, eyes, grow-a-lot"
    ):
        catalog.study_file("mixr")


def test_broken_results_are_named(three):
    (three / "results" / "weights" / "grow-a-lot.json").write_text("{")
    with pytest.raises(RecipeError, match=r"grow-a-lot\.json is not JSON"):
        catalog.systems()


def test_the_packaged_systems_have_what_the_catalog_shows():
    for system in catalog.systems():
        assert system.title
        assert system.idea
        assert system.claim
        assert system.paper
