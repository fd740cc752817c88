"""What a report, a model card or a drawing shows of files that somebody else wrote: text stays text."""

from __future__ import annotations

import json
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from canary import EVIL_TEXT, EVIL_VALUE, changed_values, fuzz, little_memory, nothing_run, refused_or_fine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "report"))
from synthetic import study_fields, write_run

from warmstart.errors import DataError, StateError
from warmstart.models.card import model_card
from warmstart.provenance import Lineage
from warmstart.report import lineage
from warmstart.report.document import script_json
from warmstart.report.gallery_html import page as gallery_page
from warmstart.report.page import render
from warmstart.report.results import Lineage as ShownLineage
from warmstart.report.results import Results
from warmstart.report.table import comparison_markdown

EVILS = [
    '<script>document.title="taken"</script>',
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "</title><h1>taken</h1>",
    "</code></pre><iframe src=https://localhost></iframe>",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "\x1b[31m\u2028\u202e",
]
OWN_SCRIPTS = 3
"""The page's own: data, plotly, code."""


class Tags(HTMLParser):
    """What a browser would make of a page: elements, event handlers and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data") and value]


def looked_at(path: Path) -> Tags:
    found = Tags(path.read_text(encoding="utf-8"))
    assert found.tags.count("script") == OWN_SCRIPTS
    assert not set(found.tags) & {"img", "iframe", "b" * 3, "object", "embed", "form", "base"}
    assert found.tags.count("h1") == 1
    assert found.handlers == []
    assert all(one == "data:," or one.startswith(("https://", "http://", "#")) for one in found.addresses)
    return found


@pytest.mark.parametrize("evil", EVILS)
def test_every_text_of_a_study_is_text(evil: str, tmp_path: Path) -> None:
    fields = study_fields(
        title=evil, idea=evil, recipe=evil, slug=evil, family=evil, scale=evil, date=evil, commit=evil, metric=evil,
        versions={evil: evil}, machine={"cpu": evil, "precision": evil, "gpu": evil, evil: evil}, given={evil: evil},
    )  # fmt: skip
    fields["claim"] = {"what": evil, "value": 0.2, "where": evil, "arm": evil}
    fields["paper"] = {"title": evil, "url": evil, "arxiv": evil}
    fields["sources"] = {evil: fields["sources"].pop("small")}
    fields["arms"][evil] = fields["arms"].pop("grown")
    arm = fields["arms"][evil]
    arm["measured"] = {evil: [1.0] * 3}
    arm["also"] = {evil: arm["curve"]}
    for graph in arm["lineage"]:
        for node in graph["nodes"]:
            node["name"] = evil
        for edge in graph["edges"]:
            edge["operation"] = edge["stage"] = evil
        graph["nodes"].append({"id": evil, "name": evil})
        graph["edges"].append({"from": graph["nodes"][0]["id"], "to": evil, "operation": evil})
    fields["data"] = {"fingerprint": evil, "statistics": {evil: evil, "list": [evil, {evil: evil}]}}
    results = Results.build(**fields)
    results.save(tmp_path / "results.json")
    looked_at(render(tmp_path))
    assert "<script" not in comparison_markdown(results)
    assert "<img" not in comparison_markdown(results)


@pytest.mark.parametrize("evil", EVILS)
def test_every_text_of_a_run_is_text(evil: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", title=evil)
    stage = run / "stages" / "00-stage"
    facts = json.loads((stage / "stage.json").read_text())
    facts["final"] = {evil: 1.0}
    facts["surgery"] = [{"surgery": {"type": evil}, "promise": evil, "largest": 1.0}]
    facts["settled"] = {"learning_rate": 0.1, "probe": {"reason": evil}}
    facts["data"] = {"fingerprint": evil, "statistics": {evil: evil}}
    (stage / "stage.json").write_text(json.dumps(facts))
    (stage / "metrics.jsonl").write_text(json.dumps({"step": 1, "tokens": 1, evil: 2.0, evil + "/loss": 3.0}) + "\n")
    stage.rename(run / "stages" / evil.replace("/", "").replace("\0", "")[:60])
    (run / "run.json").write_text(
        json.dumps({"versions": {evil: evil, "warmstart": evil}, "commit": evil, "machine": {evil: evil}})
    )
    looked_at(render(run))


@pytest.mark.parametrize("evil", EVILS)
def test_every_text_of_the_gallery_is_text(evil: str, tmp_path: Path) -> None:
    from warmstart.catalog import system
    from warmstart.report.gallery import entries

    folder = tmp_path / "family"
    folder.mkdir()
    raw = {
        "title": evil, "idea": evil, "modality": evil, "paper": {"title": evil, "url": evil, "arxiv": evil},
        "claim": {"what": evil, "value": 0.5, "where": evil}, "arms": {evil: []},
        "yours": {"model": {"says": evil}, "data": {"says": evil, "sources": ["x"]}},
    }  # fmt: skip
    (folder / "evil.yaml").write_text(json.dumps(raw))
    found = Tags(gallery_page(entries([system(folder / "evil.yaml")])))
    assert "script" not in found.tags
    assert not set(found.tags) & {"img", "iframe", "object"}
    assert found.handlers == []
    assert all(one == "data:," or one.startswith(("https://", "http://", "#")) for one in found.addresses)


def test_a_model_card_holds_what_it_is_given_as_text() -> None:
    import markdown_it

    for evil in [*EVILS, "```\n<script>alert(1)</script>\n````", "# a heading\n\nand more", "[a](javascript:x)"]:
        card = model_card(title=evil, stage=evil, facts={"a": evil, "b": 1.5}, recipe=f"title: x\n{evil}\n````\n")
        shown = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(card.split("---\n", 2)[2])
        found = Tags(shown)
        assert not set(found.tags) & {"script", "img", "svg", "iframe"}
        assert found.tags.count("h1") == 1
        assert found.tags.count("h2") == 1
        assert found.addresses == []


def test_the_page_asks_nobody_and_data_cannot_end_its_element(tmp_path: Path) -> None:
    Results.build(**study_fields()).save(tmp_path / "results.json")
    text = render(tmp_path).read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    for evil in EVILS:
        assert not set("<>&") & set(script_json({evil: [evil, float("nan"), float("inf"), "\ud800"]}))
    assert json.loads(script_json({"a": [float("nan"), 1.5]})) == {"a": [None, 1.5]}


def test_a_title_that_unfolds_without_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    (run / "recipe.yaml").write_text(bomb + "title: *i\n")
    with little_memory():
        assert "<h1>run</h1>" in render(run).read_text()


def test_half_a_character_in_a_file_of_a_run(tmp_path: Path) -> None:
    """Found by the fuzzer: JSON has half characters, a page has none."""
    run = write_run(tmp_path / "run")
    (run / "run.json").write_text(json.dumps({"versions": {"warmstart": "\ud800"}}))
    assert "warmstart ?" in looked_at_text(render(run))


def looked_at_text(path: Path) -> str:
    looked_at(path)
    return path.read_text(encoding="utf-8")


def chain(length: int, circle: bool = False) -> dict[str, Any]:
    edges = [{"from": str(n) if n else None, "to": str(n + 1), "operation": "train"} for n in range(length)]
    if circle:
        edges.append({"from": str(length), "to": "1", "operation": "train"})
    return {"nodes": [{"id": str(n + 1)} for n in range(length)], "edges": edges}


@pytest.mark.parametrize("circle", [False, True])
def test_a_lineage_without_end(circle: bool, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    start = time.process_time()
    for length, drawn in ((lineage.MOST_DRAWN - 1, True), (5_000, False)):
        (run / "lineage.json").write_text(json.dumps(chain(length, circle)))
        with little_memory():
            text = render(run).read_text()
        assert ("More sets of weights than can be drawn" in text) is not drawn
    (run / "lineage.json").write_text(json.dumps(chain(20_000)))
    with pytest.raises(DataError, match=r"lineage.json: nodes: .* at most 10000"):
        render(run)
    assert time.process_time() - start < 60


def test_many_edges_to_one_set_of_weights() -> None:
    edges = [{"from": str(n), "to": "end", "operation": "merge"} for n in range(9_000)]
    shown = ShownLineage.model_validate({"nodes": [], "edges": edges + edges[:500]})
    start = time.process_time()
    assert lineage.lineage_svg([("", shown)]) == ""
    assert len(lineage.lineage_sentences([("", shown)])) == 9_000
    assert time.process_time() - start < 30


# ---- fuzzers -------------------------------------------------------------------------------------------------------


def test_fuzz_results(tmp_path: Path) -> None:
    whole = json.loads(Results.build(**study_fields(2)).text())

    def check(raw: Any) -> None:
        (tmp_path / "results.json").write_text(json.dumps(raw))
        if refused_or_fine(lambda: render(tmp_path)) is None:
            looked_at(tmp_path / "report.html")

    fuzz(check, changed_values(whole), examples=15)


def test_fuzz_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    names = ["run.json", "lineage.json", "recipe.yaml", "stages/01-stage/stage.json"]
    originals = {name: (run / name).read_text() for name in names}
    from hypothesis import strategies as st

    def check(found: tuple[str, Any]) -> None:
        for name, text in originals.items():
            (run / name).write_text(text)
        (run / found[0]).write_text(json.dumps(found[1]))
        if refused_or_fine(lambda: render(run)) is None:
            looked_at(run / "report.html")

    def changed(name: str) -> Any:
        return st.tuples(st.just(name), changed_values(json.loads(originals[name])) | EVIL_VALUE)

    fuzz(check, st.sampled_from(names).flatmap(changed), examples=20)


def test_fuzz_metrics_of_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    file = run / "stages" / "01-stage" / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()[:4]]

    def check(raw: Any) -> None:
        file.write_text("".join(json.dumps(line) + "\n" for line in (raw if isinstance(raw, list) else [raw])))
        if refused_or_fine(lambda: render(run)) is None:
            looked_at(run / "report.html")

    fuzz(check, changed_values(lines), examples=15)


def test_flops_of_a_lineage_are_numbers(tmp_path: Path) -> None:
    """Found by the fuzzer: a text that reads like a number."""
    edge = {"from": None, "to": "a", "operation": "x", "flops": "0"}
    (tmp_path / "lineage.json").write_text(json.dumps({"nodes": [], "edges": [edge]}))
    with pytest.raises(StateError, match="FLOPs must be a number"):
        Lineage.load(tmp_path / "lineage.json")


def test_fuzz_lineages_that_a_run_starts_from(tmp_path: Path) -> None:
    whole = {
        "nodes": [{"id": "a", "name": "a", "parameters": 1}],
        "edges": [{"from": None, "to": "a", "operation": "x", "flops": 1.0}],
    }

    def check(raw: Any) -> None:
        (tmp_path / "lineage.json").write_text(json.dumps(raw))
        with nothing_run():
            refused_or_fine(lambda: Lineage.load(tmp_path / "lineage.json").cost("a", "b"))

    fuzz(check, changed_values(whole) | EVIL_TEXT, examples=80)
