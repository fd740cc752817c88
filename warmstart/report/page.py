"""One self-contained HTML page of a study or of a run: `render(folder)`.

A study's folder holds `results.json`, a run's folder holds `recipe.yaml` and `stages/`. The page stands beside them as
`report.html` and can be sent to anybody: it asks the network for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from warmstart.disk import write_whole
from warmstart.errors import DataError, UserError
from warmstart.evaluate.curves import forgetting
from warmstart.finished import CHECKSUM
from warmstart.recipe_text import read_file
from warmstart.report import charts, numbers, table
from warmstart.report.document import chart, choice, code, details, document, facts, html_table, section
from warmstart.report.lineage import lineage_sentences, lineage_svg
from warmstart.report.results import Lineage, Results
from warmstart.report.stage_facts import RunFacts, StageFacts
from warmstart.train.metrics import read_metrics

CHIPS = {"holds": ("holds", "✓"), "does not hold": ("fails", "✕"), "unclear": ("unclear", "?")}
STOPPED = "stopped"
Form = TypeVar("Form", bound=BaseModel)


def render(folder: Path | str) -> Path:
    """The page of whatever a folder holds: a study (or a results file itself) or a run.

    Raises:
        DataError: the folder holds neither, or a file in it is broken, or the page cannot be written.
    """
    folder = Path(folder)
    if folder.is_file():
        return render_study(Results.load(folder), folder.with_suffix(".html"))
    if (folder / "results.json").is_file():
        return render_study(Results.load(folder / "results.json"), folder / "report.html")
    if (folder / "stages").is_dir() or (folder / "run.json").is_file():
        return render_run(folder)
    found = "no such folder" if not folder.exists() else "it has no results.json (a study) and no run.json (a run)"
    raise DataError(f"nothing to report in {folder}: {found}")


def render_study(results: Results, out: Path | str) -> Path:
    """Writes a study's page to the file `out`."""
    lineages = [(name, arm.lineage[0]) for name, arm in results.arms.items() if arm.lineage]
    body = "\n".join(
        [
            _study_header(results),
            "<main>",
            section("Claim and verdict", _verdicts(results), "verdict"),
            section("Learning curves", _curves(results) if results.trained else "", "learning"),
            section("What it did to other held-out data", _further(results), "further"),
            section("What else was measured" if results.trained else "What the rows hold", _measured(results), "rows"),
            section("What it saved", _savings(results), "savings"),
            section("The numbers", _comparison(results), "numbers"),
            section("Where the weights came from", _lineage(lineages, results.seeds[0]), "lineage"),
            section("How it was run", _settings(results), "settings"),
            "</main>",
            _footer(results.versions, results.commit, results.date),
        ]
    )
    shown = {}
    if results.trained:
        shown = {"curves": charts.curves_chart(results), "savings-chart": charts.savings_chart(results)}
    shown |= {f"further-{k}": charts.curves_chart(results.about(name)) for k, name in enumerate(results.also)}
    return write_whole(Path(out), document(f"{results.title} · warmstart", body, shown))


def _study_header(results: Results) -> str:
    slug = f"{results.family}/{results.slug}" if results.family else results.slug
    seeds = f"{len(results.seeds)} seed{'s' if len(results.seeds) > 1 else ''}"
    eyebrow = " · ".join(["Study", slug, f"{results.scale} scale", seeds, results.date])
    idea = f'<p class="idea">{escape(results.idea)}</p>' if results.idea else ""
    return f'<header><p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(results.title)}</h1>{idea}</header>'


def _verdicts(results: Results) -> str:
    """The paper's claim on one side, the verdict on every arm on the other: no arm is picked out."""
    effects = results.effects
    counts = {word: sum(e.verdict == word for e in effects.values()) for word in CHIPS}
    stopped = [name for name, arm in results.arms.items() if any(arm.stopped)]
    parts = [f"{word} in {count}" for word, count in counts.items() if count]
    parts += [f"{STOPPED} in {len(stopped)}"] if stopped else []
    total = len(effects) + len(stopped)
    arms = f"{total} arm{'s' if total != 1 else ''}"
    summary = f"{', '.join(parts).capitalize()} of {arms}" if parts else "Nothing to compare"
    rows = "".join(
        f"<li>{chip(effect.verdict)}<b>{escape(name)}</b>"
        f"<span>{escape(table.effect_words(effect, results))}</span></li>"
        for name, effect in effects.items()
    )
    rows += "".join(
        f"<li>{chip(STOPPED)}<b>{escape(name)}</b><span>could not win any more, by forecast; not measured to the end"
        "</span></li>"
        for name in stopped
    )
    at = " at equal training FLOPs" if results.trained else ", without training"
    ours = (
        f'<div class="card ours"><h3>What we measured</h3><p class="big">{escape(summary)}</p>'
        f'<p class="setting">{escape(table.scale_text(results))}; against “{escape(results.baseline)}”{at}</p>'
        f'<ul class="arms">{rows}</ul></div>'
    )
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in results.remarks)
    warning = f'<div class="note"><h3>Read this first</h3><ul>{remarks}</ul></div>' if remarks else ""
    explanation = (
        '<p class="fine">A verdict is about the direction of the claim at our own scale; it never reproduces the '
        "paper’s number. "
        + (
            "<b>holds</b>: better at equal FLOPs and a saving above zero, both by their 95 % intervals. "
            if results.trained
            else "<b>holds</b>: better by its 95 % interval. "
        )
        + "<b>does not hold</b>: worse by its interval. <b>unclear</b>: these seeds cannot tell.</p>"
    )
    return f'<div class="cards">{_claim_card(results)}{ours}</div>{warning}{explanation}'


def _claim_card(results: Results) -> str:
    if results.claim is None:
        return ""
    share = table.claimed_saving(results.claim)
    value = results.claim.value
    if value is None:
        big = ""
    elif share is None:
        big = f'<p class="big">{value:g}</p>'
    else:
        big = f'<p class="big">{numbers.percent(value)}</p>'
    converted = ""
    if share is not None and share != value:
        converted = f'<p class="setting">a speed-up; as a saving that is {numbers.percent(share, 1)}</p>'
    paper = ""
    if results.paper is not None:
        text = escape(table.paper_text(results.paper))
        link = results.paper.url or (
            f"https://arxiv.org/abs/{quote(results.paper.arxiv)}" if results.paper.arxiv else ""
        )
        safe = link.startswith(("https://", "http://"))
        paper = (
            f'<p class="paper"><a href="{escape(link)}" rel="noreferrer">{text}</a></p>' if safe else f"<p>{text}</p>"
        )
    where = f'<p class="setting">{escape(results.claim.where)}</p>' if results.claim.where else ""
    return (
        f'<div class="card claim"><h3>What the paper says</h3>{big}<p class="what">{escape(results.claim.what)}</p>'
        f"{converted}{where}{paper}</div>"
    )


def chip(verdict: str) -> str:
    """The verdict as a coloured word; the sign says the same without colour."""
    if not verdict:
        return '<span class="chip baseline">baseline</span>'
    kind, sign = (STOPPED, "■") if verdict == STOPPED else CHIPS[verdict]
    return f'<span class="chip {kind}"><i aria-hidden="true">{sign}</i>{escape(verdict)}</span>'


def _curves(results: Results) -> str:
    controls = (
        '<div class="controls">'
        + choice("axis", "Against", [("flops", "FLOPs"), ("tokens", "tokens")])
        + choice("view", "Show", [("zoom", "the end, zoomed"), ("all", "everything")])
        + "</div>"
    )
    many = len(results.seeds) > 1
    stopped = any(any(arm.stopped) for arm in results.arms.values())
    caption = (
        f"{results.metric} ({results.better} is better) on held-out data. "
        + (f"Lines: mean of {len(results.seeds)} seeds; bands: from the worst to the best seed. " if many else "")
        + ("An arm with a stopped run is drawn as far as all of its seeds went. " if stopped else "")
        + f"Dotted: where “{results.baseline}” ends. Compute is that of the arm’s own training, from 0; what a reused "
        "model cost before is in “with source” below."
    )
    ends = ", ".join(f"{row.arm} {row.final}" for row in table.rows(results))
    label = f"Line chart of {results.metric} against training FLOPs for each arm. Final values: {ends}."
    return chart("curves", label, caption, controls) + details("The curves as numbers", _curve_table(results))


def _further(results: Results) -> str:
    """Further held-out sets, e.g. the corpus that a model comes from: forgetting is the rise of the loss there."""
    parts = []
    for k, name in enumerate(results.also):
        seen = results.about(name)
        decimals = numbers.metric_decimals([v for arm in seen.arms.values() for v in arm.final])
        rows = []
        for arm, found in seen.arms.items():
            rise = [
                None if end is None or values[0] is None else forgetting([values[0], end])
                for values, end in zip(found.curve.values, found.final, strict=True)
            ]
            rows.append(
                [
                    escape(arm),
                    numbers.mean_and_half([values[0] for values in found.curve.values], decimals),
                    numbers.mean_and_half(found.final, decimals),
                    numbers.mean_and_half(rise, decimals),
                ]
            )
        caption = f"Loss on “{name}” at the beginning and the end, and its rise: what was forgotten (negative: gained)"
        head = ["arm", "beginning", "end", "forgetting"]
        label = f"Line chart of {name}/loss against training FLOPs for each arm."
        parts.append(chart(f"further-{k}", label, f"{name}/loss (lower is better), the same runs on other data."))
        parts.append(html_table(caption, head, rows))
    return "".join(parts)


def _measured(results: Results) -> str:
    """Everything else that was measured at the end: one row per metric, one column per arm."""
    names = list(dict.fromkeys(name for arm in results.arms.values() for name in arm.measured))
    if not names:
        return ""
    rows = []
    for name in names:
        found = [arm.measured.get(name, []) for arm in results.arms.values()]
        decimals = numbers.metric_decimals([value for values in found for value in values])
        rows.append([escape(name), *(numbers.mean_and_half(values, decimals) for values in found)])
    return html_table("Means over seeds with their 95 % intervals", ["", *map(escape, results.arms)], rows)


def _curve_table(results: Results) -> str:
    data = charts.curves_chart(results)
    longest = max(data["arms"], key=lambda arm: len(arm["mean"]))
    head = ["FLOPs", *(arm["name"] for arm in data["arms"])]
    rows = []
    for k, flops in enumerate(longest["x"]["flops"]):
        values = [arm["mean"][k] if k < len(arm["mean"]) else None for arm in data["arms"]]
        rows.append(
            [numbers.scaled(flops), *(numbers.MISSING if v is None else f"{v:.{data['decimals']}f}" for v in values)]
        )
    caption = f"{results.metric}, mean over seeds, at each evaluation; FLOPs are those of '{longest['name']}'"
    return html_table(caption, head, rows)


def _savings(results: Results) -> str:
    if not results.effects or not results.trained:
        return ""
    caption = (
        f"Share of the compute of “{results.baseline}” that an arm did not need to reach its final {results.metric}. "
        "Bars: 95 % interval over seeds; small "
        "marks: single seeds. Right of zero is better. A saving is not a speed-up: 35 % saved is 55 % faster."
    )
    shown = ", ".join(f"{name}: {table.saving(effect.saving)}" for name, effect in results.effects.items())
    key = (
        '<p class="key"><span><b>●</b> this training alone</span>'
        "<span><b>◇</b> with what the reused model cost to make</span></p>"
    )
    return chart("savings-chart", f"Dot chart of the compute saved by each arm. {shown}.", caption, key)


def _comparison(results: Results) -> str:
    head = [
        "arm", "verdict", f"final {results.metric}", "difference", "saving", "with source", "FLOPs", "tokens",
        "seconds", "peak memory", "weights",
    ]  # fmt: skip
    rows = [
        [escape(row.arm), chip(row.verdict)]
        + [
            escape(cell)
            for cell in (
                row.final, row.difference, row.saving, row.saving_with_source, row.flops, row.tokens, row.seconds,
                row.memory, row.parameters,
            )
        ]
        for row in table.rows(results)
    ]  # fmt: skip
    seeds = len(results.seeds)
    caption = f"Means over {seeds} seeds with their 95 % intervals" if seeds > 1 else "One seed: no intervals"
    sources = [
        [escape(name), *(escape(cell) for cell in (
            numbers.scaled(numbers.mean_of(source.flops)),
            numbers.scaled(numbers.mean_of(numbers.per_seed(source.tokens))),
            numbers.scaled(numbers.mean_of(numbers.per_seed(source.seconds))),
            numbers.scaled(source.parameters),
        ))]
        for name, source in results.sources.items()
    ]  # fmt: skip
    reused = html_table("Models that arms start from", ["source", "FLOPs", "tokens", "seconds", "weights"], sources)
    paper = (
        f'<p class="fine">The paper, in its own setting: {escape(table.claim_text(results))}.</p>'
        if results.claim
        else ""
    )
    return html_table(caption, head, rows, left=2) + (reused if sources else "") + paper


def _lineage(lineages: Sequence[tuple[str, Lineage]], seed: int | None) -> str:
    drawing, said = lineage_svg(lineages), lineage_sentences(lineages)
    if not drawing and not said:
        return ""
    note = "Each box is a set of weights, named by the SHA-256 of its tensors (first 12 digits)"
    note += f"; seed {seed} is shown." if seed is not None else "."
    sentences = "".join(f"<li>{escape(s)}</li>" for s in said)
    drawing = drawing or '<p class="fine">More sets of weights than can be drawn.</p>'
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="Lineage of the weights">{drawing}</div>'
        f'<p class="fine">{escape(note)}</p>' + details("The lineage in words", f"<ul>{sentences}</ul>")
    )


def _settings(results: Results) -> str:
    again = f"warmstart study {results.slug} --scale {results.scale} --seeds {len(results.seeds)}"
    data = {"fingerprint": results.data.fingerprint, **results.data.statistics, **(results.data.model_extra or {})}
    columns = [
        ("Machine", facts(results.machine.model_dump())),
        ("Versions", facts({**results.versions, "commit": results.commit})),
        ("Data", facts(data)),
    ]
    return f"<h3>Run it again</h3>{code(again)}" + _columns(columns) + details(
        "All settings (the resolved study)", code(results.recipe) if results.recipe else ""
    )  # fmt: skip


def _columns(columns: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f"<div><h3>{escape(title)}</h3>{content}</div>" for title, content in columns if content)
    return f'<div class="columns">{shown}</div>' if shown else ""


def _footer(versions: dict[str, Any], commit: str | None, date: str) -> str:
    pieces = [f"warmstart {versions.get('warmstart', '')}".strip(), f"commit {commit[:12]}" if commit else "", date]
    return f"<footer><p>{escape(' · '.join(p for p in pieces if p))}</p></footer>"


# ---- a run -----------------------------------------------------------------------------------------------------------


def render_run(folder: Path | str) -> Path:
    """Writes a run's page to `report.html` in its folder; also of a run that is not finished.

    Raises:
        DataError: a file of the run is broken, or the page cannot be written.
    """
    folder = Path(folder)
    recipe = _read_text(folder / "recipe.yaml")
    facts_of_run = _read_form(RunFacts, folder / "run.json") or RunFacts()
    stages = sorted(p for p in (folder / "stages").glob("*") if p.is_dir())
    finished = {stage.name: _read_form(StageFacts, stage / "stage.json") for stage in stages}
    metrics = [(stage.name, read_metrics(stage / "metrics.jsonl")) for stage in stages]
    found = charts.run_charts(metrics)
    lineage = _read_form(Lineage, folder / "lineage.json") or Lineage()
    title = _title(folder / "recipe.yaml") or folder.resolve().name
    done = sum(f is not None for f in finished.values())
    eyebrow = f"Run · {len(stages)} stage{'s' if len(stages) != 1 else ''}" + (
        "" if done == len(stages) else f", {done} finished"
    )
    body = "\n".join(
        [
            f'<header><p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1></header>',
            "<main>",
            section("Stages", _stage_table(finished), "stages"),
            section("Metrics", _run_plots(found), "metrics"),
            section("Where the weights came from", _lineage([("", lineage)], None), "lineage"),
            section("How it was run", _run_settings(facts_of_run, finished, recipe), "settings"),
            "</main>",
            _footer(facts_of_run.versions, facts_of_run.commit, ""),
        ]
    )
    shown = {f"metric-{k}": chart for k, chart in enumerate(found)}
    return write_whole(folder / "report.html", document(f"{title} · warmstart", body, shown))


def _stage_table(finished: dict[str, StageFacts | None]) -> str:
    if not finished:
        return '<p class="fine">No stage has begun.</p>'
    metrics = list(dict.fromkeys(name for found in finished.values() if found for name in found.final))
    head = ["stage", "steps", "tokens", "FLOPs", "seconds", "peak memory", "weights", *metrics]
    rows, notes = [], []
    for name, found in finished.items():
        stage = found or StageFacts()
        cells = [
            numbers.scaled(stage.steps),
            numbers.scaled(stage.tokens),
            numbers.scaled(stage.flops),
            numbers.scaled(stage.seconds),
            numbers.size(stage.peak_memory_bytes),
            numbers.scaled(stage.parameters),
        ]
        values = [stage.final.get(metric) for metric in metrics]
        cells += [numbers.MISSING if v is None else f"{v:.{numbers.metric_decimals([v])}f}" for v in values]
        unfinished = "" if found else ' <span class="chip unclear">unfinished</span>'
        rows.append([escape(name) + unfinished, *map(escape, cells)])
        for change in stage.surgery:
            kind = str(change.surgery.get("type", "surgery"))[:100]
            largest = numbers.MISSING if change.largest is None else f"{change.largest:.3g}"
            promise = f"keeps the function {change.promise}; largest logit difference {largest}"
            notes.append(f"{name}: {kind} {promise}")
        if stage.settled.probe is not None and stage.settled.learning_rate is not None:
            rate = f"learning rate {stage.settled.learning_rate:.3g} by probe"
            notes.append(f"{name}: {rate}: {stage.settled.probe.reason}")
        if any(stage.guard.values()):
            passed, scaled, back = (stage.guard.get(name, 0) for name in ("skipped", "clipped", "rolled_back"))
            notes.append(
                f"{name}: the guard passed {passed:g} steps over, scaled {scaled:g} gradients down and rolled back "
                f"{back:g} times"
            )
    checks = f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""
    return html_table("What each stage used and reached", head, rows) + checks


def _run_plots(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return '<p class="fine">Nothing has been logged yet.</p>'
    options = [("step", "steps"), ("tokens", "tokens"), ("flops", "FLOPs")]
    plots = []
    for k, shown in enumerate(found):
        names = sorted({series["name"] for series in shown["series"]})
        ends = [f"{s['name']} ends at {s['y'][-1]:.4g}" for s in shown["series"] if s["y"] and s["y"][-1] is not None]
        label = f"Line chart of {' and '.join(names)}. {'; '.join(ends)}."
        plots.append(chart(f"metric-{k}", label, " and ".join(names).replace("_", " ")))
    return f'<div class="controls">{choice("axis", "Against", options)}</div><div class="grid">{"".join(plots)}</div>'


def _run_settings(run: RunFacts, finished: dict[str, StageFacts | None], recipe: str) -> str:
    again = "warmstart run recipe.yaml --out again"
    columns = [("Machine", facts(run.machine)), ("Versions", facts({**run.versions, "commit": run.commit}))]
    for name, stage in finished.items():
        data = (stage or StageFacts()).data
        shown = facts({"fingerprint": data.fingerprint, **data.statistics})
        columns.append((f"Data of {name}" if len(finished) > 1 else "Data", shown))
    return (
        f"<h3>Run it again</h3>{code(again)}"
        + _columns(columns)
        + details("All settings (the resolved recipe)", code(recipe) if recipe else "")
    )


def _title(path: Path) -> str:
    try:
        raw = read_file(path).values
    except UserError:  # no recipe, or a broken one: the folder's name is title enough
        return ""
    return str(raw.get("title", "")) if isinstance(raw, dict) and isinstance(raw.get("title"), str) else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def _read_form(form: type[Form], path: Path) -> Form | None:
    """The content of a JSON file; None where there is none.

    Raises:
        DataError: it cannot be read, is not JSON, or has other fields than it should.
    """
    text = _read_text(path)
    if not text:
        return None
    try:
        raw = json.loads(text)
        if isinstance(raw, dict):
            raw.pop(CHECKSUM, None)
        return form.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}".replace(": : ", ": ")) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
