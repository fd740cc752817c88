"""The catalog in a terminal: a line or two per system for all of them, everything about those that were looked for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from warmstart.report.gallery import SIGNS, Entry
from warmstart.report.table import STYLES

IN_FULL = 3
"""So many of the systems that a search found are shown in full."""


def overview(found: Sequence[Entry]) -> RenderableType:
    """A table of systems that fits 80 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for column, width in (("system", 16), ("family", 10), ("what it does", 34), ("verdict", 14)):
        table.add_column(column, max_width=width, overflow="fold")
    for one in found:
        system = one.system
        table.add_row(Text(system.slug, style="bold"), Text(system.family), Text(system.title), _verdict(one))
    return Group(table, Text(f"\nwarmstart catalog {found[0].slug} shows one in full", style="dim") if found else "")


def results_of_search(found: Sequence[Entry]) -> RenderableType:
    """The best ones in full, the others as a table."""
    pieces: list[RenderableType] = []
    for one in found[:IN_FULL]:
        pieces += [in_full(one), ""]
    if found[IN_FULL:]:
        pieces.append(overview(found[IN_FULL:]))
    return Group(*pieces)


def in_full(one: Entry) -> RenderableType:
    """Everything about one system, its commands included."""
    system = one.system
    head = Text.assemble((system.slug, "bold"), f"  {system.modality} · {system.family}", style="dim")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    if one.claimed:
        facts.add_row("paper", Text(one.claimed))
        facts.add_row("", Text(". ".join(filter(None, [one.claimed_where, one.paper_text])), style="dim"))
    verdict = _verdict(one)
    if one.own_arm and one.results is not None:
        verdict.append(f"  {one.own_arm}", style="default")
    facts.add_row("ours", verdict)
    for text in filter(None, (one.measured, one.measured_where)):
        facts.add_row("", Text(text, style="" if text == one.measured else "dim"))
    if one.others:
        facts.add_row("", Text("beside it: " + ", ".join(f"{name} {word}" for name, word in one.others), style="dim"))
    facts.add_row("run", Text(one.run, style="cyan"))
    if one.run_on_yours:
        facts.add_row("yours", Text(one.run_on_yours, style="cyan"))
    for name, says in one.takes:
        facts.add_row("", Text(f"{name}: {says.replace('`', '')}", style="dim"))
    return Group(head, Padding(Group(Text(system.title), Text(system.idea, style="dim"), facts), (0, 0, 0, 2)))


def _verdict(one: Entry) -> Text:
    return Text(f"{SIGNS[one.verdict]} {one.verdict}", style=STYLES.get(one.verdict, "dim"))
