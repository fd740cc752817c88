"""The frame of a report page: one HTML file that holds its style, its script, its data and plotly.

Plotly is nine tenths of a page. It is put in compressed (4.8 MB become 1.9 MB) and unpacked by the browser. The
price: a browser from before 2023 shows the tables and drawings without the charts. A content security policy
forbids the page any request, so that a report opened from a mail tells nobody.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from warmstart.report import numbers

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def document(title: str, body: str, charts: Mapping[str, Any]) -> str:
    """A whole page.

    Args:
        title: the window's title, plain text.
        body: HTML; everything in it that comes from names or files must be escaped already.
        charts: chart data by the id of the element that shows it.
    """
    script = files("warmstart.report").joinpath("page.js").read_text(encoding="utf-8")
    return plain_document(
        title,
        f'{body}\n<script type="application/json" id="charts">{script_json(charts)}</script>\n'
        f'<script type="text/plain" id="plotly">{compressed_plotly()}</script>\n'
        f"<script>\n{script}</script>",
    )


def plain_document(title: str, body: str) -> str:
    """A whole page without charts; arguments as in `document`."""
    style = files("warmstart.report").joinpath("page.css").read_text(encoding="utf-8")
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
    return page.encode("utf-8", "replace").decode()  # half a character, which a JSON file may hold, cannot be written


@cache
def compressed_plotly() -> str:
    """plotly.js, gzip, base64."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def script_json(value: Any) -> str:
    """JSON that may stand in a `<script>` element: no text in it can end the element."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    """The value with null for what JSON in a browser has no word for."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def section(title: str, content: str, identity: str = "") -> str:
    """A section with a heading; `title` is plain text, `content` is HTML. Empty content: no section."""
    attribute = f' id="{escape(identity)}"' if identity else ""
    return f"<section{attribute}>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def details(summary: str, content: str) -> str:
    """Something that can be folded out; `summary` is plain text, `content` is HTML."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>" if content else ""


def code(text: str) -> str:
    """A block of code or of a file."""
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table that scrolls sideways on a small screen.

    Args:
        caption: plain text.
        head: column headings, plain text.
        rows: cells as HTML; the first of each row is its heading.
        left: how many columns, from the first, hold words (the others hold numbers and stand to the right).
    """

    def kind(column: int) -> str:
        return "" if column < left else ' class="number"'

    headings = "".join(f'<th scope="col"{kind(k)}>{escape(h)}</th>' for k, h in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{cell}</th>' if k == 0 else f"<td{kind(k)}>{cell}</td>" for k, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>\n<thead><tr>{headings}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>"
    )


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, nested ones joined with a dot, as a definition list; missing values are left out."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in flatten(values))
    return f"<dl>{pairs}</dl>" if pairs else ""


DEEPEST = 8
"""Levels of nested values that are shown."""


def flatten(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """(name, text) of every value that is there."""
    found: list[tuple[str, str]] = []
    if depth > DEEPEST:
        return [(prefix.rstrip(": "), "…")]
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            found += flatten(value, f"{name}: ", depth + 1)
        elif value is not None and value != [] and value != "":
            found.append((name.removesuffix(" bytes"), _value_text(str(key), value)))
    return found


def _value_text(key: str, value: Any, depth: int = 0) -> str:
    if depth > DEEPEST:
        return "…"
    if key.endswith("_bytes") and isinstance(value, int | float) and abs(value) < 2**80:
        return numbers.size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_value_text("", v, depth + 1) for v in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_value_text('', inner, depth + 1)}" for name, inner in value.items())
    # A hash in full tells a reader nothing more; the files beside the page hold all of it.
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b", r"\1…", str(value))


def chart(identity: str, label: str, caption: str, controls: str = "") -> str:
    """A place for a chart: `label` says in words what is seen, for those who do not see it; `caption` is plain text."""
    return (
        f'<figure class="chart">{controls}<div class="legend" id="{identity}-legend" hidden></div>'
        f'<div class="plot" id="{identity}" role="img" aria-label="{escape(label)}">'
        '<p class="waiting">The chart is being drawn …</p></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def choice(name: str, legend: str, options: Sequence[tuple[str, str]]) -> str:
    """A group of radio buttons in one line; the first is chosen."""
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" if k == 0 else ""}>'
        f"<span>{escape(text)}</span></label>"
        for k, (value, text) in enumerate(options)
    )
    return f'<fieldset class="choice"><legend>{escape(legend)}</legend>{buttons}</fieldset>'
