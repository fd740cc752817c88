"""Taking padding out and putting it back; groups of length; errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.batch.unpad import length_groups, repad, unpad
from warmstart.errors import DataError

WIDTH = 12
lengths_of_texts = st.lists(st.integers(1, WIDTH), min_size=1, max_size=7)


def batch(lengths: list[int], left: list[bool] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids that are all different and a mask, padded on the right or, where `left` says so, on the left."""
    places = torch.arange(WIDTH).expand(len(lengths), -1)
    size = torch.tensor(lengths)[:, None]
    at_left = torch.tensor(left or [False] * len(lengths))[:, None]
    mask = torch.where(at_left, places >= WIDTH - size, places < size)
    return torch.arange(1, mask.numel() + 1).view(mask.shape), mask


@given(lengths_of_texts, st.data())
def test_there_and_back_is_the_identity_on_tokens_and_zero_elsewhere(lengths, data):
    left = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    ids, mask = batch(lengths, left)
    flat = unpad(ids, mask)
    assert torch.equal(repad(flat.ids, flat.indices, tuple(ids.shape)), ids * mask)
    vectors = torch.randn(*ids.shape, 3)
    assert torch.equal(
        repad(vectors.flatten(0, 1)[flat.indices], flat.indices, tuple(ids.shape)), vectors * mask[..., None]
    )
    assert flat.lengths == tuple(lengths)
    assert flat.cu_seqlens.dtype == torch.int32
    assert flat.cu_seqlens[0] == 0
    assert flat.cu_seqlens[-1] == len(flat.ids) == sum(lengths)
    assert (flat.cu_seqlens.diff() > 0).all()
    assert flat.positions.tolist() == [place for length in lengths for place in range(length)]


def test_the_gradient_goes_back_to_the_tokens():
    _, mask = batch([3, 1])
    values = torch.randn(4, 2, requires_grad=True)
    weights = torch.randn(2, WIDTH, 2)
    (repad(values, mask.flatten().nonzero().flatten(), (2, WIDTH)) * weights).sum().backward()
    assert torch.equal(values.grad, weights[mask])


def test_masks_of_numbers_do_too():
    ids, mask = batch([3, 1])
    assert torch.equal(unpad(ids, mask.long()).indices, unpad(ids, mask).indices)


def test_a_text_without_a_token_is_an_error():
    ids, mask = batch([3, 1])
    mask[1] = False
    with pytest.raises(DataError, match="text 1 of the batch has no token"):
        unpad(ids, mask)


def test_a_hole_is_an_error_unless_allowed():
    ids, mask = batch([3, 5])
    mask[1, 2] = False
    with pytest.raises(DataError, match=r"text 1 .* padding between"):
        unpad(ids, mask)
    flat = unpad(ids, mask, allow_holes=True)
    assert flat.lengths == (3, 4)
    assert flat.positions.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert torch.equal(repad(flat.ids, flat.indices, (2, WIDTH)), ids * mask)


def test_a_text_that_is_too_long_is_an_error():
    ids, mask = batch([3, 5])
    unpad(ids, mask, longest=5)
    with pytest.raises(DataError, match=r"text 1 .* 5 tokens, more than the 4"):
        unpad(ids, mask, longest=4)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="must both be"):
        unpad(torch.zeros(2, 3), torch.ones(2, 4))


@given(st.lists(st.integers(1, WIDTH), max_size=20), st.lists(st.integers(1, WIDTH), max_size=4))
def test_groups_partition_the_texts(lengths, caps):
    lengths = sorted(lengths, reverse=True)
    for allowed in (None, [*caps, WIDTH]):
        groups = length_groups(lengths, allowed)
        assert [text for group in groups for text in range(group.first, group.end)] == list(range(len(lengths)))
        assert all(length <= group.cap for group in groups for length in lengths[group.first : group.end])
        assert len({group.cap for group in groups}) == len(groups)
        if allowed is None:
            assert all(length == group.cap for group in groups for length in lengths[group.first : group.end])
        else:  # no smaller cap would have done
            smaller = [max((cap for cap in allowed if cap < group.cap), default=0) for group in groups]
            assert all(
                length > less
                for group, less in zip(groups, smaller, strict=True)
                for length in lengths[group.first : group.end]
            )


def test_groups_need_descending_texts_and_a_long_enough_cap():
    with pytest.raises(ValueError, match="descending"):
        length_groups([3, 4])
    with pytest.raises(ValueError, match="9 tokens is longer than the largest cap"):
        length_groups([9, 4], [4, 8])
