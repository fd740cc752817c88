from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from warmstart.models.axes import TABLES, Sizes
from warmstart.surgery.maps import axis_maps, by_runs, fitted, in_groups, join, spread, unchanged


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_balanced_spreads_copies_in_turn() -> None:
    m = spread(3, 8, "balanced", generator())
    assert m.index.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert m.fresh.tolist() == [False] * 3 + [True] * 5
    assert m.counts.tolist() == [3, 3, 2, 3, 3, 2, 3, 3]
    assert (m.old, m.new, m.kept.tolist()) == (3, 8, [0, 1, 2])


@given(old=st.integers(1, 20), extra=st.integers(0, 30), seed=st.integers(0, 9))
def test_every_old_entry_keeps_its_original_under_a_random_map(old: int, extra: int, seed: int) -> None:
    m = spread(old, old + extra, "random", torch.Generator().manual_seed(seed))
    assert m.index[m.kept].tolist() == list(range(old))
    assert int(m.fresh.sum()) == extra
    assert torch.allclose((1 / m.counts).sum(), torch.tensor(float(old), dtype=torch.float64))


def test_heads_stay_in_their_group_and_become_runs_of_entries() -> None:
    heads = in_groups(2, 2, 3, "balanced", generator())
    assert heads.index.tolist() == [0, 1, 0, 2, 3, 2]  # group-major
    assert heads.fresh.tolist() == [False, False, True] * 2
    assert heads.kept.tolist() == [0, 1, 3, 4]
    assert by_runs(heads, 2).index.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 7, 4, 5]


def test_axes_of_a_fused_dimension_lie_one_after_the_other() -> None:
    m = join([spread(2, 3, "balanced", generator()), unchanged(2)])
    assert m.index.tolist() == [0, 1, 0, 2, 3]
    assert m.kept.tolist() == [0, 1, 3, 4]


def test_the_residual_map_is_one_for_all_blocks_and_the_others_are_not() -> None:
    old = Sizes(width=8, depth=2, heads=4, kv_heads=4, head_dim=2, mlp=16)
    new = Sizes(width=24, depth=2, heads=12, kv_heads=12, head_dim=2, mlp=48)
    first, second, outside = (
        axis_maps(old, new, mapping="random", width_mapping="random", seed=1, layer=layer) for layer in (0, 1, None)
    )
    assert first["width"].index.tolist() == second["width"].index.tolist() == outside["width"].index.tolist()
    assert first["mlp"].index.tolist() != second["mlp"].index.tolist()
    assert first["heads"].index.tolist() == first["kv_heads"].index.tolist()  # one key and value head per query head


def test_key_and_value_heads_stay_where_they_are_groups() -> None:
    old = Sizes(width=8, depth=1, heads=4, kv_heads=2, head_dim=2, mlp=16)
    new = Sizes(width=8, depth=1, heads=6, kv_heads=2, head_dim=2, mlp=16)
    maps = axis_maps(old, new, mapping="balanced", width_mapping="balanced", seed=0, layer=0)
    assert not maps["kv_heads"].grows
    q = TABLES["llama"].weights["layers.{layer}.self_attn.q_proj.weight"]
    k = TABLES["llama"].weights["layers.{layer}.self_attn.k_proj.weight"]
    grown, same = fitted(q, maps)
    assert same is None
    assert grown is not None
    assert grown.new == 12
    assert fitted(k, maps) == [None, None]
