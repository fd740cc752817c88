"""The drawing of the lineage."""

from __future__ import annotations

import itertools
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from synthetic import digest, lineage

from warmstart.report.lineage import lineage_sentences, lineage_svg
from warmstart.report.results import Lineage


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_arms_share_the_weights_that_they_share():
    arms = [(name, Lineage.model_validate(lineage(name, 0, True))) for name in ("fpi", "aki")]
    svg = lineage_svg(arms)
    assert texts(svg).count("small trained") == 1
    assert {"fpi", "aki", "grow fpi", "grow aki", "600 GFLOP"} <= set(texts(svg))
    assert digest("small", 0)[:12] in svg


def test_boxes_do_not_overlap():
    arms = [(f"arm {k}", Lineage.model_validate(lineage(f"arm {k}", 0, k > 0))) for k in range(7)]
    boxes = [(float(r.get("x")), float(r.get("y"))) for r in ElementTree.fromstring(lineage_svg(arms)).iter("rect")]
    assert len(boxes) == len(set(boxes)) == 2 + 2 + 6 * 2
    columns: dict[float, list[float]] = {}
    for x, y in boxes:
        columns.setdefault(x, []).append(y)
    for rows in columns.values():
        rows.sort()
        assert all(after - before > 58 for before, after in itertools.pairwise(rows))


def test_names_are_text():
    raw = {
        "nodes": [{"id": "a" * 64, "name": "<script>x</script>"}],
        "edges": [{"from": None, "to": "a" * 64, "operation": "<b>"}],
    }
    svg = lineage_svg([("", Lineage.model_validate(raw))])
    assert "<script" not in svg
    assert "<b>" in texts(svg)


def test_damaged_graphs_are_drawn_as_far_as_they_go():
    nodes = [{"id": c * 64, "name": c} for c in "ab"]
    edge = {"operation": "train", "from": "a" * 64, "to": "b" * 64}
    back = {"operation": "train", "from": "b" * 64, "to": "a" * 64}
    itself = {"operation": "nothing", "from": "a" * 64, "to": "a" * 64}
    unknown = {"operation": "load", "from": "c" * 64, "to": "a" * 64}
    svg = lineage_svg([("", Lineage.model_validate({"nodes": nodes, "edges": [edge, back, itself, unknown]}))])
    assert {"a", "b", "c" * 12} <= set(texts(svg))
    assert "nothing" not in texts(svg)
    assert lineage_svg([("", Lineage())]) == ""


def test_sentences_say_the_same():
    sentences = lineage_sentences([("fpi", Lineage.model_validate(lineage("fpi", 0, True)))])
    assert sentences[0].endswith("random gpt2, from nothing")
    assert sentences[-1] == (
        f"fpi ({digest('fpi end', 0)[:12]}): train, from fpi grown ({digest('fpi grown', 0)[:12]}), 3.00 TFLOP"
    )
