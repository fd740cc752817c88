"""The gallery as one self-contained HTML page: no script, and nothing asked of the network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby

from warmstart.report.document import code, html_table, plain_document, section
from warmstart.report.figure import figure
from warmstart.report.gallery import LEGEND, MEANING, NOT_RUN, OWN, Entry
from warmstart.report.page import chip

STYLE = """<style>
main article { margin: 24px 0; }
.entry .figure { display: block; margin: 12px 0; max-width: 100%; height: auto; }
.entry h3 { font-size: 1.15rem; color: var(--ink); }
.entry pre { margin: 12px 0; }
.index td { white-space: normal; }
</style>"""


def page(found: Sequence[Entry]) -> str:
    """The whole page; `found` is by family."""
    legend = "".join(f"<li>{_chip(verdict)} {escape(meaning)}</li>" for verdict, meaning in LEGEND.items())
    body = [
        STYLE,
        '<header><p class="eyebrow">warmstart</p><h1>Gallery</h1>',
        f'<p class="idea">{len(found)} published systems, each with a study that compares it with its baselines.</p>',
        "</header>",
        "<main>",
        section("Verdicts", f'<p class="fine">{escape(MEANING)}</p><ul>{legend}</ul>{_index(found)}', "verdicts"),
        section("On your own model and data", f'<p class="fine">{escape(OWN)}</p>', "own"),
    ]
    for family, members in groupby(found, key=lambda one: one.system.family):
        body.append(section(family.capitalize(), "".join(_entry(one) for one in members), f"family-{family}"))
    return plain_document("Gallery · warmstart", "\n".join([*body, "</main>"]))


def _chip(verdict: str) -> str:
    return chip(verdict) if verdict != NOT_RUN else f'<span class="chip baseline">{NOT_RUN}</span>'


def _index(found: Sequence[Entry]) -> str:
    rows = [
        [
            f'<a href="#{escape(one.slug)}">{escape(one.slug)}</a>',
            _chip(one.verdict),
            *map(escape, (one.system.family, one.system.modality, one.system.title, one.claimed)),
        ]
        for one in found
    ]
    head = ["system", "our verdict", "family", "modality", "what it does", "the paper claims"]
    return f'<div class="index">{html_table("All systems", head, rows, left=6)}</div>'


def _entry(one: Entry) -> str:
    system = one.system
    paper = escape(one.paper_text)
    paper = f'<a href="{escape(one.paper_link)}" rel="noreferrer">{paper}</a>' if one.paper_link else paper
    others = "".join(f"<li>{_chip(verdict)}<b>{escape(name)}</b><span></span></li>" for name, verdict in one.others)
    drawing = figure(one.results, one.own_arm) if one.results is not None else ""
    commands = "\n".join(filter(None, [one.run, one.run_on_yours]))
    takes = "".join(f"<li><b>{escape(name)}</b>: {_with_code(says)}</li>" for name, says in one.takes)
    return (
        f'<article class="entry" id="{escape(system.slug)}"><h3>{escape(system.slug)}: {escape(system.title)}</h3>'
        f'<p class="setting">{escape(system.idea)} ({escape(system.modality)})</p>'
        '<div class="cards"><div class="card claim"><h3>What the paper says</h3>'
        f'<p class="what">{escape(one.claimed)}</p><p class="setting">{escape(one.claimed_where)}</p>'
        f'<p class="paper">{paper}</p></div>'
        f'<div class="card ours"><h3>What we measured</h3><p>{_chip(one.verdict)} '
        f"<b>{escape(one.own_arm or '')}</b></p>"
        f'<p>{escape(one.measured)}</p><p class="setting">{escape(one.measured_where)}</p>'
        f"{f'<ul class=arms>{others}</ul>' if others else ''}</div></div>"
        f"{drawing}{code(commands)}{f'<ul>{takes}</ul>' if takes else ''}</article>"
    )


def _with_code(says: str) -> str:
    """A sentence of a study file, what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(says))
