"""The lineage of weights as a drawing: which weights came from which, by what, at what cost.

Plain SVG, laid out here, so that it needs no script and prints. Weights stand in columns by the number of operations that
led to them, each in line with what was made of it. The price of so simple a layout: lines of graphs with many merges cross.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from warmstart.report import numbers
from warmstart.report.results import Lineage, LineageEdge

BOX_WIDTH, BOX_HEIGHT = 172, 58
COLUMN, ROW = 356, 82
LEFT, MARGIN = 140, 16
LABEL_CHARACTERS = 27


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


def lineage_svg(lineages: Sequence[tuple[str, Lineage]]) -> str:
    """An SVG of one or several lineages drawn as one graph: equal hashes are the same weights.

    Args:
        lineages: (name, lineage); the name is written at the weights that the lineage ends with, if it is not empty.

    Returns:
        The `<svg>` element, or an empty string where there are no weights.
    """
    graph = _merged(lineages)
    if not graph:
        return ""
    _place(graph)
    width = LEFT + max(w.column for w in graph.values()) * COLUMN + BOX_WIDTH + 2 * MARGIN
    height = round((max(w.row for w in graph.values()) + 1) * ROW + MARGIN)
    pieces = [_edge(graph, edge) for weights in graph.values() for edge in weights.inward]
    pieces += [_box(weights) for weights in graph.values()]
    description = f"Lineage of {len(graph)} sets of weights; the list below the drawing says the same in words."
    return (
        f'<svg class="lineage" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
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
    for name, lineage in lineages:
        for node in lineage.nodes:
            graph.setdefault(node.id, _Weights(node.id, node.name or node.id[:12], node.parameters))
        sources = {edge.from_ for edge in lineage.edges if edge.from_ != edge.to}
        for edge in lineage.edges:
            weights = graph.setdefault(edge.to, _Weights(edge.to, edge.to[:12]))
            if edge.from_ == edge.to or edge in weights.inward:
                continue
            weights.inward.append(edge)
            if edge.from_ is not None:
                graph.setdefault(edge.from_, _Weights(edge.from_, edge.from_[:12])).outward.append(edge.to)
        for node in lineage.nodes:
            if name and node.id not in sources:
                graph[node.id].name, graph[node.id].result = name, True
    return graph


def _place(graph: dict[str, _Weights]) -> None:
    """Columns by the longest way from a root; rows by walking from the roots, a parent beside its children's middle."""
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


def _corner(weights: _Weights) -> tuple[float, float]:
    return LEFT + weights.column * COLUMN, MARGIN + weights.row * ROW


def _box(weights: _Weights) -> str:
    x, y = _corner(weights)
    count = f" · {numbers.scaled(weights.parameters)} weights" if weights.parameters else ""
    kind = "weights result" if weights.result else "weights"
    return (
        f'<g class="{kind}"><title>{escape(weights.name)} {escape(weights.id)}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
        f'<text class="name" x="{x + 12:.0f}" y="{y + 24:.0f}">{escape(_short(weights.name, 22))}</text>'
        f'<text class="hash" x="{x + 12:.0f}" y="{y + 44:.0f}"><tspan class="mono">{escape(weights.id[:12])}</tspan>'
        f"{escape(count)}</text></g>"
    )


def _edge(graph: dict[str, _Weights], edge: LineageEdge) -> str:
    x, y = _corner(graph[edge.to])
    y += BOX_HEIGHT / 2
    if edge.from_ is None:
        start = f'<circle cx="{x - 112:.0f}" cy="{y:.0f}" r="4"/>'
        path = f"M {x - 108:.0f} {y:.0f} H {x - 7:.0f}"
    else:
        from_x, from_y = _corner(graph[edge.from_])
        from_x, from_y, start = from_x + BOX_WIDTH, from_y + BOX_HEIGHT / 2, ""
        bend = from_x + 36
        path = (
            f"M {from_x:.0f} {from_y:.0f} C {bend:.0f} {from_y:.0f} {bend - 24:.0f} {y:.0f} {from_x + 52:.0f} {y:.0f}"
        )
        path += f" H {x - 7:.0f}"
    room = LABEL_CHARACTERS if edge.from_ is not None else 18
    lines = textwrap.wrap(edge.operation, room, max_lines=2, placeholder=" …", break_on_hyphens=False) or [""]
    label = "".join(
        f'<text class="operation" x="{x - 14:.0f}" y="{y - 7 - 14 * (len(lines) - 1 - k):.0f}">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    cost = (
        f'<text class="cost" x="{x - 14:.0f}" y="{y + 16:.0f}">{numbers.flops(edge.flops)}</text>' if edge.flops else ""
    )
    arrow = f'<path class="head" d="M {x - 8:.0f} {y - 4:.0f} L {x - 1:.0f} {y:.0f} L {x - 8:.0f} {y + 4:.0f} Z"/>'
    return f'<g class="edge"><title>{escape(edge.operation)}</title>{start}<path d="{path}"/>{arrow}{label}{cost}</g>'


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
