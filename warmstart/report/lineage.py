"""The lineage of weights as a drawing: which weights came from which, by what, at what cost.

Plain SVG, laid out here, so that it needs no script and prints. Weights stand in columns by the number of
operations that led to them, each in line with what was made of it. The price of so simple a layout: lines of
graphs with many merges cross.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from warmstart.report import numbers
from warmstart.report.results import Lineage, LineageEdge

BOX_WIDTH, BOX_HEIGHT, ROW, MARGIN = 164, 58, 82, 16
BEND = 48  # where lines from one box part, before the operations' names
LABEL_CHARACTERS = 26
MOST_DRAWN = 300
"""Sets of weights; of more, nothing could be seen, and laying them out would take long."""
CHARACTER = 6.2  # about the width of one at 11 pixels


@dataclass
class _Weights:
    """One set of weights with its place in the drawing."""

    id: str
    name: str = ""
    parameters: int | None = None
    result: bool = False
    inward: list[LineageEdge] = field(default_factory=list)
    outward: list[str] = field(default_factory=list)
    column: int = 0
    row: float = 0.0
    x: float = 0.0
    y: float = 0.0


def lineage_svg(lineages: Sequence[tuple[str, Lineage]]) -> str:
    """An SVG of one or several lineages drawn as one graph: equal hashes are the same weights.

    Args:
        lineages: (name, lineage); the name is written at the weights that the lineage ends with, if it is not empty.

    Returns:
        The `<svg>` element, or an empty string where there are no weights, or more than can be drawn.
    """
    graph = _merged(lineages)
    if not 0 < len(graph) <= MOST_DRAWN:
        return ""
    _place(graph)
    lefts = _column_lefts(graph)
    for weights in graph.values():
        weights.x, weights.y = lefts[weights.column], MARGIN + weights.row * ROW
    width = round(max(lefts) + BOX_WIDTH + MARGIN)
    height = round((max(w.row for w in graph.values()) + 1) * ROW + MARGIN)
    pieces = [_edge(graph, edge) for weights in graph.values() for edge in weights.inward]
    pieces += [_box(weights) for weights in graph.values()]
    description = f"Lineage of {len(graph)} sets of weights; the list below the drawing says the same in words."
    # On a small screen the drawing is scrolled rather than made too small to read.
    return (
        f'<svg class="lineage" style="min-width:{round(width * 0.7)}px" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(description)}">{"".join(pieces)}</svg>'
    )


def lineage_sentences(lineages: Sequence[tuple[str, Lineage]]) -> list[str]:
    """The same graph in words, one sentence per operation: for those who do not see the drawing."""
    graph = _merged(lineages)
    sentences = []
    for weights in graph.values():
        for edge in weights.inward:
            origin = graph.get(edge.from_ or "")
            start = f"from {origin.name} ({origin.id[:12]})" if origin else "from nothing"
            cost = f", {numbers.flops(edge.flops)}" if edge.flops else ""
            sentences.append(f"{weights.name} ({weights.id[:12]}): {edge.operation}, {start}{cost}")
    return sentences


def _merged(lineages: Sequence[tuple[str, Lineage]]) -> dict[str, _Weights]:
    graph: dict[str, _Weights] = {}
    seen: set[str] = set()
    for name, lineage in lineages:
        for node in lineage.nodes:
            graph.setdefault(node.id, _Weights(node.id, node.name or node.id[:12], node.parameters))
        sources = {edge.from_ for edge in lineage.edges if edge.from_ != edge.to}
        for edge in lineage.edges:
            weights = graph.setdefault(edge.to, _Weights(edge.to, edge.to[:12]))
            if edge.from_ == edge.to or (same := edge.model_dump_json()) in seen:
                continue
            seen.add(same)
            weights.inward.append(edge)
            if edge.from_ is not None:
                graph.setdefault(edge.from_, _Weights(edge.from_, edge.from_[:12])).outward.append(edge.to)
        for node in lineage.nodes:
            if name and node.id not in sources:
                graph[node.id].name, graph[node.id].result = name, True
    return graph


def _place(graph: dict[str, _Weights]) -> None:
    """Columns by the longest way from a root; rows from the roots on, a parent beside its children's middle."""
    for _ in range(len(graph)):
        moved = False
        for weights in graph.values():
            for child in weights.outward:
                # The bound keeps a damaged file with a cycle from growing for ever.
                if graph[child].column <= weights.column < len(graph) - 1:
                    graph[child].column, moved = weights.column + 1, True
        if not moved:
            break
    placed: set[str] = set()
    free = 0

    def walk(weights: _Weights) -> None:
        nonlocal free
        placed.add(weights.id)
        children = [graph[c] for c in dict.fromkeys(weights.outward) if c not in placed]
        for child in children:
            if child.id not in placed:
                walk(child)
        if children:
            weights.row = (children[0].row + children[-1].row) / 2
        else:
            weights.row, free = float(free), free + 1

    roots = [w for w in graph.values() if all(e.from_ is None for e in w.inward)]
    for weights in [*roots, *graph.values()]:
        if weights.id not in placed:
            walk(weights)


def _label(edge: LineageEdge) -> list[str]:
    lines = textwrap.wrap(edge.operation, LABEL_CHARACTERS, max_lines=2, placeholder=" …", break_on_hyphens=False)
    return lines or [""]


def _column_lefts(graph: dict[str, _Weights]) -> list[float]:
    """Where each column begins: the room before it holds the longest name of an operation that leads into it."""
    lefts: list[float] = []
    for column in range(max(w.column for w in graph.values()) + 1):
        edges = [edge for w in graph.values() if w.column == column for edge in w.inward]
        longest = max((len(line) for edge in edges for line in _label(edge)), default=0)
        longest = max([longest, *(len(numbers.flops(edge.flops)) for edge in edges if edge.flops)])
        start = lefts[-1] + BOX_WIDTH + BEND if lefts else float(MARGIN)
        lefts.append(start + CHARACTER * longest + 32)
    return lefts


def _box(weights: _Weights) -> str:
    x, y = weights.x, weights.y
    count = f" · {numbers.scaled(weights.parameters)}" if weights.parameters else ""
    kind = "weights result" if weights.result else "weights"
    spoken = f"{weights.name}, {weights.id}" + (f", {weights.parameters:,} weights" if weights.parameters else "")
    return (
        f'<g class="{kind}"><title>{escape(spoken)}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
        f'<text class="name" x="{x + 12:.0f}" y="{y + 24:.0f}">{escape(_short(weights.name, 18))}</text>'
        f'<text class="hash" x="{x + 12:.0f}" y="{y + 44:.0f}">'
        f'<tspan class="mono">{escape(weights.id[:12])}</tspan>{escape(count)}</text></g>'
    )


def _edge(graph: dict[str, _Weights], edge: LineageEdge) -> str:
    x, y = graph[edge.to].x, graph[edge.to].y + BOX_HEIGHT / 2
    lines = _label(edge)
    if edge.from_ is None:
        left = x - CHARACTER * max(map(len, lines)) - 26
        start = f'<circle cx="{left:.0f}" cy="{y:.0f}" r="4"/>'
        path = f"M {left:.0f} {y:.0f} H {x - 7:.0f}"
    else:
        origin, start = graph[edge.from_], ""
        left, from_y = origin.x + BOX_WIDTH, origin.y + BOX_HEIGHT / 2
        middle = left + BEND / 2
        path = f"M {left:.0f} {from_y:.0f} C {middle:.0f} {from_y:.0f} {middle:.0f} {y:.0f} {left + BEND:.0f} {y:.0f}"
        path += f" H {x - 7:.0f}"
    end = f"{x - 14:.0f}"
    label = "".join(
        f'<text class="operation" x="{end}" y="{y - 7 - 14 * (len(lines) - 1 - k):.0f}">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    cost = numbers.flops(edge.flops) if edge.flops else ""
    price = f'<text class="cost" x="{end}" y="{y + 16:.0f}">{cost}</text>' if cost else ""
    arrow = f"M {x - 8:.0f} {y - 4:.0f} L {x - 1:.0f} {y:.0f} L {x - 8:.0f} {y + 4:.0f} Z"
    return (
        f'<g class="edge"><title>{escape(edge.operation)}</title>{start}<path d="{path}"/>'
        f'<path class="head" d="{arrow}"/>{label}{price}</g>'
    )


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
