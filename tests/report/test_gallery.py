"""The gallery: what it says of each system follows from its study and its results, and the committed page is theirs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from report.synthetic import study_fields

from warmstart import catalog
from warmstart.errors import RecipeError, UserError
from warmstart.report import gallery, gallery_html, gallery_markdown
from warmstart.report.gallery import NOT_RUN, Entry, entries
from warmstart.report.results import Results

CHECKOUT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script>`|[x](y)"
STUDY = """\
title: Grow a tiny model
idea: Copy what is there.
paper: {title: A paper, arxiv: "2110.07143", year: 2021}
claim: {what: training compute saved, value: 0.47, where: a larger model, arm: ARM}
yours: {data: {says: any `text`, sources: [shared.data.source]}}
arms: {scratch: [{}], grown: [{}], worse: [{}]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes/weights").mkdir(parents=True)
    (tmp_path / "results/weights").mkdir(parents=True)
    monkeypatch.setattr(catalog, "STUDIES", tmp_path / "recipes")
    monkeypatch.setattr(catalog, "RESULTS", (tmp_path / "results",))
    return tmp_path


def tiny(folder: Path, arm: str = "grown", slug: str = "tiny", run: bool = True, **fields: Any) -> Entry:
    """A system with made-up results: `grown` is better, `worse` is worse."""
    (folder / f"recipes/weights/{slug}.yaml").write_text(STUDY.replace("ARM", arm))
    if run:
        Results.build(**study_fields(**fields)).save(folder / f"results/weights/{slug}.json")
    return next(one for one in entries() if one.slug == slug)


def test_the_committed_page_is_what_studies_and_results_give() -> None:
    """After a change of a study or of results: `make gallery`."""
    gallery_markdown.check(entries(), CHECKOUT / "docs")


def test_every_link_of_the_committed_page_leads_somewhere() -> None:
    text = (CHECKOUT / "docs/gallery.md").read_text(encoding="utf-8")
    anchors = {f"#{heading.lower()}" for heading in re.findall(r"^###? ([\w-]+)$", text, re.MULTILINE)}
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 3 * len(entries())
    for target in targets:
        if target.startswith("#"):
            assert target in anchors
        elif not target.startswith("https://arxiv.org/abs/"):
            assert (CHECKOUT / "docs" / target).is_file(), target


def test_the_verdict_is_that_of_the_arm_named_beforehand(folder: Path) -> None:
    assert tiny(folder, "grown").verdict == "holds"
    assert tiny(folder, "worse").verdict == "does not hold"
    assert tiny(folder, "worse").others == [("grown", "holds")]
    assert tiny(folder, "null").verdict == "unclear"  # no arm named, and they do not agree
    assert tiny(folder, "grown", seeds=1).verdict == "unclear"
    assert tiny(folder, "gone").verdict == NOT_RUN  # the results have no such arm
    new = tiny(folder, slug="new", run=False)
    assert (new.verdict, new.measured, new.measured_where, new.others) == (NOT_RUN, "", "", [])
    assert {one.verdict for one in entries()} <= set(gallery.SIGNS)


def test_the_paper_stands_beside_ours_each_with_its_setting(folder: Path) -> None:
    one = tiny(folder)
    assert (one.claimed, one.claimed_where) == ("47 % training compute saved", "a larger model")
    assert one.measured.startswith("saving ")
    assert "with what the source cost: " in one.measured
    assert one.measured_where.startswith("scale laptop, 850 k parameters, 3 seeds, validation/loss, lower is better")
    assert one.run == "warmstart study tiny"
    fields = study_fields()
    fields["arms"]["scratch"]["reused_flops"] = fields["arms"]["grown"]["reused_flops"]
    assert "source cost" not in tiny(folder, slug="both", arms=fields["arms"]).measured  # the baseline has it too
    assert one.run_on_yours == "warmstart study tiny --data DATA"
    page, html = gallery_markdown.files([one], folder)["gallery.md"], gallery_html.page([one])
    for text in (page, html):
        for piece in (one.claimed, "a larger model", "850 k parameters", "holds", one.run, one.run_on_yours):
            assert piece in text
        assert "reproduction" not in text
        for found in re.findall(r"[^.]*reproduc[^.]*", text):
            assert "does not reproduce" in found
    as_json = gallery.as_json(one)
    assert as_json["verdict"] == "holds"
    assert as_json["arms"] == {"grown": "holds", "worse": "does not hold"}


def test_a_study_that_was_not_run_has_no_figure_and_says_so(folder: Path) -> None:
    made = gallery_markdown.files([tiny(folder, run=False)], folder)
    assert list(made) == ["gallery.md"]
    assert "· **not run yet**" in made["gallery.md"]
    assert "![" not in made["gallery.md"]


def test_a_stale_page_is_noticed(folder: Path) -> None:
    docs = folder / "docs"
    tiny(folder)
    found = entries()
    assert len(gallery_markdown.write(found, docs)) == 2
    gallery_markdown.check(found, docs)
    # other results, another study, a hand in the page, a figure of a study that is no more, a missing figure
    tiny(folder, seeds=2)
    with pytest.raises(UserError, match=r"gallery\.md, .*tiny\.svg"):
        gallery_markdown.check(entries(), docs)
    gallery_markdown.write(entries(), docs)
    study = folder / "recipes/weights/tiny.yaml"
    study.write_text(study.read_text().replace("Copy", "Borrow"))
    with pytest.raises(UserError, match=r"give: \S*gallery\.md;"):
        gallery_markdown.check(entries(), docs)
    gallery_markdown.write(entries(), docs)
    page = docs / "gallery.md"
    page.write_text(page.read_text() + "more\n")
    with pytest.raises(UserError, match=r"warmstart catalog --docs"):
        gallery_markdown.check(entries(), docs)
    gallery_markdown.write(entries(), docs)
    (docs / "gallery/old.svg").write_text("<svg/>")
    with pytest.raises(UserError, match=r"old\.svg"):
        gallery_markdown.check(entries(), docs)
    gallery_markdown.write(entries(), docs)
    assert [path.name for path in (docs / "gallery").iterdir()] == ["tiny.svg"]
    (docs / "gallery/tiny.svg").unlink()
    with pytest.raises(UserError, match=r"tiny\.svg"):
        gallery_markdown.check(entries(), docs)


def test_the_same_studies_give_the_same_bytes(folder: Path) -> None:
    tiny(folder)
    assert gallery_markdown.files(entries(), folder) == gallery_markdown.files(entries(), folder)
    assert gallery_html.page(entries()) == gallery_html.page(entries())


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.requests: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.requests += [value or "" for name, value in attrs if name in ("src", "srcset", "data", "action")]


def test_the_html_page_has_no_script_asks_for_nothing_and_escapes(folder: Path) -> None:
    fields = study_fields()
    fields["arms"][EVIL] = fields["arms"].pop("worse")
    tiny(folder, arms=fields["arms"], metric=EVIL)
    study = folder / "recipes/weights/tiny.yaml"
    study.write_text(study.read_text().replace("Copy what is there.", f"'{EVIL}'"))
    found = Tags(gallery_html.page(entries()))
    assert "script" not in found.tags
    assert "svg" in found.tags
    assert found.requests == []
    assert "<code>text</code>" in gallery_html.page(entries())
    rendered = MarkdownIt().enable("table").render(gallery_markdown.files(entries(), folder)["gallery.md"])
    found = Tags(rendered)
    assert "script" not in found.tags
    assert found.requests == ["gallery/tiny.svg"]
    assert found.tags.count("tr") == 2 + 3 + 4  # no name has broken out of its cell: all systems, the entry, all arms


def test_a_bad_header_is_one_line(folder: Path) -> None:
    (folder / "recipes/weights/bad.yaml").write_text("title: x\nclaim: {what: y, valeu: 3}\n")
    with pytest.raises(RecipeError, match=r"bad\.yaml: valeu: ") as error:
        entries()
    assert len(str(error.value).splitlines()) == 1
