"""The page of a study and of a run, as HTML and in a real browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from synthetic import study_fields, write_run

from warmstart.errors import DataError
from warmstart.report.document import script_json
from warmstart.report.page import render, render_study
from warmstart.report.results import Results

EVIL = '<script>document.title="taken"</script><b>bold</b>'


class Outline(HTMLParser):
    """Tags, and attributes that would ask for something outside the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.requests: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.requests += [v for k, v in given.items() if k in ("src", "srcset", "data", "action") and v]
        if tag == "link":
            self.requests += [given["href"]] if given["href"] != "data:," else []
        if tag not in ("meta", "link", "input", "path", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("path", "rect", "circle"):
            return
        assert self.open.pop() == tag


def outline(path: Path) -> Outline:
    found = Outline(path.read_text(encoding="utf-8"))
    assert found.open == []
    return found


def test_a_study_is_one_file_that_asks_for_nothing(tmp_path):
    Results.build(**study_fields()).save(tmp_path / "results.json")
    page = render(tmp_path)
    assert page == tmp_path / "report.html"
    assert outline(page).requests == []
    assert page.stat().st_size < 2_500_000
    text = page.read_text(encoding="utf-8")
    for piece in (
        "Grow a tiny model",
        "47 %",
        "does not hold",
        "holds",
        "A processor",
        "warmstart study tiny --scale laptop",
    ):
        assert piece in text
    packed = re.search(r'id="plotly">([^<]+)<', text).group(1)
    assert b"plotly.js" in gzip.decompress(base64.b64decode(packed))[:200]


def test_the_same_results_give_the_same_bytes(tmp_path):
    results = Results.build(**study_fields())
    first, second = (render_study(results, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_a_results_file_can_be_named_itself(tmp_path):
    path = Results.build(**study_fields()).save(tmp_path / "tiny.json")
    assert render(path) == tmp_path / "tiny.html"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_study_without_claim_sources_lineage_or_baseline(tmp_path, seeds):
    fields = study_fields(seeds=seeds, claim=None, paper=None, sources={}, commit=None, recipe="", versions={})
    del fields["arms"]["scratch"]
    for arm in fields["arms"].values():
        arm["lineage"] = []
    text = render_study(Results.build(**fields), tmp_path / "r.html").read_text()
    assert "was not run" in text
    assert "What the paper says" not in text


def test_text_from_files_is_never_markup(tmp_path):
    fields = study_fields(title=EVIL, idea=EVIL, recipe=EVIL, slug="x" + EVIL, versions={EVIL: EVIL})
    fields["claim"] = {"what": EVIL, "value": 0.2, "where": EVIL}
    fields["paper"] = {"title": EVIL, "url": "javascript:alert(1)"}
    fields["arms"][EVIL] = fields["arms"].pop("grown")
    fields["data"]["statistics"] = {EVIL: EVIL}
    found = outline(render_study(Results.build(**fields), tmp_path / "r.html"))
    assert found.tags.count("script") == 3  # the page's own: data, plotly, code
    assert (
        "javascript:" not in (tmp_path / "r.html").read_text().replace("javascript:alert(1)", "", 0).split("<main>")[0]
    )
    assert 'href="javascript' not in (tmp_path / "r.html").read_text()


def test_no_text_can_end_the_script_element():
    text = script_json({"a</script ": "<!--&"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a</script ": "<!--&"}


def test_a_run_shows_its_stages_also_before_it_is_finished(tmp_path):
    text = render(write_run(tmp_path / "run", finished=False, title="A run & more")).read_text()
    assert "<h1>A run &amp; more</h1>" in text
    assert "unfinished" in text
    assert "2 stages, 1 finished" in text
    outline(tmp_path / "run" / "report.html")


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "stages").mkdir()
    assert "No stage has begun" in render(tmp_path).read_text()


def test_a_surgery_check_is_shown(tmp_path):
    assert (
        "grow keeps the function exactly; largest logit difference 2e-06"
        in render(write_run(tmp_path / "r")).read_text()
    )


def test_what_cannot_be_reported_is_said_in_one_line(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        render(tmp_path / "none")
    with pytest.raises(DataError, match=r"no results\.json"):
        render(tmp_path)
    run = write_run(tmp_path / "run")
    (run / "stages" / "00-stage" / "stage.json").write_text("{")
    with pytest.raises(DataError, match=r"stage\.json is not JSON"):
        render(run)
    run = write_run(tmp_path / "other")
    (run / "lineage.json").write_text(json.dumps({"nodes": [{"name": "x"}]}))
    with pytest.raises(DataError, match=r"lineage\.json: nodes\.0\.id: Field required"):
        render(run)


# ---- in a browser ----------------------------------------------------------------------------------------------------

BROWSER = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if BROWSER is None:
        pytest.skip(
            "no browser on this machine (chromium, chromium-browser, google-chrome): `make browser` installs one"
        )
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    arguments += ["--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield opened
        opened.close()


class Visit:
    """A page that was opened, with everything it complained about or asked for."""

    def __init__(self, browser, path: Path, width: int = 1400, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(180_000)  # a busy machine needs a minute for what takes an idle one two seconds
        self.page = context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn]")

    def drawn(self, chart: str) -> dict:
        return self.page.evaluate(
            "id => { const g = document.getElementById(id); return {"
            " title: g.layout.xaxis.title.text, top: g.layout.yaxis.range?.[1],"
            " names: g.data.map(t => t.name).filter(Boolean), end: Math.max(...g.data.flatMap(t => t.x)),"
            " paths: g.querySelectorAll('path.js-line, .points path').length } }",
            chart,
        )

    def clean(self) -> None:
        assert self.complaints == []
        outside = [url for url in self.requests if not url.startswith(("file://", "data:", "blob:"))]
        assert outside == []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_a_study_in_a_browser(tmp_path, browser, width, scheme):
    fields = study_fields(title=EVIL)
    fields["arms"]["<i>odd</i>"] = fields["arms"].pop("worse")
    page = render_study(Results.build(**fields), tmp_path / "report.html")
    visit = Visit(browser, page, width, scheme)
    visit.clean()
    assert visit.page.locator("h1").inner_text() == EVIL
    assert visit.page.title().startswith(EVIL)
    for name in ("scratch", "grown", "<i>odd</i>"):
        assert visit.page.locator("tbody th", has_text=name).first.is_visible()
        assert visit.page.locator("#curves-legend button", has_text=name).is_visible()
    assert visit.drawn("curves")["paths"] > 0
    assert visit.drawn("savings-chart")["paths"] > 0
    if width > 1000:  # the names at the ends of the lines, as text
        assert visit.page.locator("#curves .annotation-text", has_text="<i>odd</i>").count() == 1
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_the_reader_chooses_axis_view_and_arms(tmp_path, browser):
    visit = Visit(browser, render_study(Results.build(**study_fields()), tmp_path / "report.html"))
    before = visit.drawn("curves")
    assert before["title"] == "training FLOPs"
    assert before["end"] == 3e12
    visit.page.get_by_label("tokens", exact=True).check(force=True)
    after = visit.drawn("curves")
    assert after["title"] == "training tokens"
    assert after["end"] == 1e6
    visit.page.get_by_label("everything").check(force=True)
    assert visit.drawn("curves")["top"] > 8 > before["top"]
    button = visit.page.locator("#curves-legend button", has_text="grown")
    button.click()
    assert visit.drawn("curves")["names"] == ["scratch", "worse"]
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    assert visit.drawn("curves")["names"] == ["scratch", "grown", "worse"]
    visit.clean()


@pytest.mark.slow
def test_colours_follow_the_reader(tmp_path, browser):
    visit = Visit(browser, render_study(Results.build(**study_fields()), tmp_path / "report.html"))
    colour = "document.getElementById('curves').data.at(-1).line.color"
    light = visit.page.evaluate(colour)
    visit.page.emulate_media(color_scheme="dark")
    for _ in range(50):  # (the page's own policy forbids playwright's wait_for_function)
        if visit.page.evaluate(colour) != light:
            break
        visit.page.wait_for_timeout(100)
    assert visit.page.evaluate(colour) != light
    visit.clean()


@pytest.mark.slow
def test_a_run_in_a_browser(tmp_path, browser):
    visit = Visit(browser, render(write_run(tmp_path / "run", title=EVIL)), 400)
    assert visit.page.locator("h1").inner_text() == EVIL
    assert visit.page.locator("figcaption", has_text="learning rate").is_visible()
    assert visit.drawn("metric-0")["end"] == 80
    visit.page.get_by_label("tokens", exact=True).check(force=True)
    assert visit.drawn("metric-0")["end"] == 8000
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400
    visit.clean()
