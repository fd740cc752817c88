"""What weights cost to make."""

from __future__ import annotations

from warmstart.provenance import Lineage


def test_what_several_weights_have_in_common_costs_once() -> None:
    lineage = Lineage()
    lineage.add("base", "base", 1, origin=None, operation="train", flops=100.0)
    lineage.add("left", "left", 1, origin="base", operation="train", flops=10.0)
    lineage.add("right", "right", 1, origin="base", operation="train", flops=1.0)
    assert lineage.cost("left") == 110
    assert lineage.cost("left", "right") == 111
    assert lineage.cost("left", "base") == 110
    assert lineage.cost() == lineage.cost(None) == 0
