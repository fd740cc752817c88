from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from warmstart.surgery.depth import depth_map


def test_stack_repeats_and_puts_the_top_on_top() -> None:
    assert depth_map(3, 8, "stack").source == (0, 1, 2, 0, 1, 2, 1, 2)
    assert depth_map(12, 24, "stack").source == tuple(range(12)) * 2


def test_interleave_puts_copies_beside_their_block() -> None:
    assert depth_map(3, 6, "interleave").source == (0, 0, 1, 1, 2, 2)
    assert depth_map(32, 40, "interleave").source[:8] == (0, 0, 1, 2, 3, 4, 4, 5)


def test_identity_silences_the_copies_only() -> None:
    found = depth_map(3, 5, "identity")
    assert found.source == (0, 0, 1, 1, 2)
    assert found.silent == {1, 3}


@given(old=st.integers(1, 30), extra=st.integers(0, 60))
def test_maps_use_every_block_and_do_nothing_where_depth_stays(old: int, extra: int) -> None:
    new = old + extra
    stack, interleave, identity = (depth_map(old, new, how) for how in ("stack", "interleave", "identity"))  # type: ignore[arg-type]
    for found in (stack, interleave, identity):
        assert len(found.source) == new
        assert set(found.source) == set(range(old))
    assert interleave.source == tuple(layer * old // new for layer in range(new))
    assert list(interleave.source) == sorted(interleave.source)
    assert len(identity.silent) == extra
    if not extra:
        assert stack.source == interleave.source == tuple(range(old))
