"""What the command line shows of the corpora: all of them, and what was found in one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from warmstart.data.corpora import store
from warmstart.data.corpora.corpus import Corpus
from warmstart.data.corpora.registry import CORPORA, find
from warmstart.data.corpora.store import Notify

EXCERPT = 200
SHOWN_LANGUAGES = 5


def table() -> Table:
    """All corpora: name and title, size, licence, metadata columns, and whether they are fetched."""
    result = Table(box=None, padding=(0, 1), show_edge=False, expand=False)
    for heading, justify in (
        ("corpus", "left"),
        ("MB", "right"),
        ("licence", "left"),
        ("columns", "left"),
        ("", "left"),
    ):
        result.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for corpus in CORPORA.values():
        columns = ", ".join(corpus.columns)
        if len(corpus.languages) > 1:
            columns += f"\n[dim]{languages(corpus)}[/dim]"
        result.add_row(
            f"[bold]{corpus.name}[/bold]\n[dim]{escape(corpus.title)}[/dim]",
            size(corpus.megabytes),
            escape(corpus.licence),
            columns,
            "fetched" if store.is_here(corpus.name) else "",
        )
    return result


def size(megabytes: float) -> str:
    """`0.03`, `1.2`, `63`."""
    return f"{megabytes:.2f}" if megabytes < 0.1 else f"{megabytes:.1f}" if megabytes < 10 else f"{megabytes:.0f}"


def languages(corpus: Corpus) -> str:
    """The languages of a corpus in few words."""
    shown = ", ".join(corpus.languages[:SHOWN_LANGUAGES])
    more = len(corpus.languages) - SHOWN_LANGUAGES
    return f"languages: {shown}, and {more} more" if more > 0 else f"languages: {shown}"


def get(names: Sequence[str], language: str | None = None, notify: Notify | None = None) -> Iterator[str]:
    """Fetches corpora; lines that say what was found in each.

    Raises:
        DataError: as `store.fetch`; all names are checked before the first fetch.
    """
    for name in names:
        store.checked_language(find(name), language)
    for name in names:
        yield from described(name, language, notify)


def described(name: str, language: str | None = None, notify: Notify | None = None) -> Iterator[str]:
    """Lines about one corpus, which is fetched where it is missing."""
    corpus = find(name)
    facts = store.fetch(name, language, notify)
    yield f"{corpus.name}: {corpus.title} ({facts.language})"
    for package in facts.packages:
        yield f"  package   {package['name']} {package['version']} ({package['registry']}), sha256 {package['sha256']}"
    if corpus.parts:
        yield f"  parts     {', '.join(name for name, _ in corpus.parts)}"
    yield f"  licence   {corpus.licence}"
    if corpus.use:
        yield f"  note      {corpus.use}"
    yield f"  rows      {facts.rows:,}, {facts.text_bytes / 1e6:,.2f} MB of text, digest {facts.digest}"
    for warning in facts.warnings:
        yield f"  warning   {warning}"
    row = next(store.rows(name, language))
    text = " ".join(row.pop("text").split())
    yield f"  columns   {', '.join(row)}"
    yield f"  first     {text[:EXCERPT]}{'...' if len(text) > EXCERPT else ''}"


def markdown() -> str:
    """The table of `docs/corpora.md`."""
    lines = [
        "| corpus | what | MB | rows | licence | metadata columns | packages |",
        "|---|---|---|---|---|---|---|",
    ]
    for corpus in CORPORA.values():
        what = f"{corpus.title}; {languages(corpus)}" if len(corpus.languages) > 1 else corpus.title
        licence = f"{corpus.licence}. {corpus.use[0].upper()}{corpus.use[1:]}" if corpus.use else corpus.licence
        packages = dict.fromkeys(
            f"{package.name} {package.version} ({package.registry})" for package in corpus.packages
        )
        columns = ", ".join(f"`{column}`" for column in corpus.columns)
        parts = "; ".join(packages) or "the corpora " + ", ".join(f"`{name}`" for name, _ in corpus.parts)
        cells = (f"`{corpus.name}`", what, size(corpus.megabytes), f"{corpus.rows:,}", licence, columns, parts)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
