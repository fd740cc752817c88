"""Packing and the blocks on disk."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.batch import Block, Tokens
from warmstart.data.batch.blocks import Blocks, write_blocks
from warmstart.data.batch.concat import Concat


def documents_of(lengths: list[int]) -> list[Tokens]:
    ends = np.cumsum([0, *lengths])
    return [Tokens(np.arange(start, end)) for start, end in pairwise(ends)]


def pack(lengths: list[int], length: int) -> list[Block]:
    return list(Concat().pack(iter(documents_of(lengths)), length, padding=0))


@given(lengths=st.lists(st.integers(0, 30), max_size=30), length=st.integers(1, 16))
def test_concat_loses_nothing_but_the_tail(lengths: list[int], length: int) -> None:
    blocks = pack(lengths, length)
    total = sum(lengths)
    assert len(blocks) == total // length
    if not blocks:
        return
    tokens, documents, positions = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("tokens", "documents", "positions")
    )
    assert (tokens == np.arange(total - total % length)).all()
    owner = np.repeat(np.arange(len(lengths)), lengths)
    assert (documents == owner[: len(tokens)]).all()
    starts_piece = np.ones(len(tokens), dtype=bool)
    starts_piece[1:] = documents[1:] != documents[:-1]
    starts_piece[::length] = True
    assert ((positions == 0) == starts_piece).all()
    assert (positions[1:][~starts_piece[1:]] == positions[:-1][~starts_piece[1:]] + 1).all()


def test_concat_is_lazy() -> None:
    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield Tokens(np.arange(5))

    assert next(iter(Concat().pack(endless(), 8, padding=0))).positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]


def test_blocks_come_back_from_disk(tmp_path: Path) -> None:
    packed = pack([5, 9, 2, 40], 8)
    assert write_blocks(tmp_path / "train-0", iter(packed), 8, vocabulary=1000) == len(packed) == 7
    blocks = Blocks(tmp_path / "train-0")
    assert len(blocks) == 7
    assert blocks.length == 8
    for block, read in zip(packed, blocks, strict=True):
        assert (read["tokens"] == block.tokens).all()
        assert (read["positions"] == block.positions).all()
        assert all(array.dtype == np.int64 for array in read.values())
    assert blocks[0]["documents"].tolist() == [0] * 5 + [1] * 3
    assert blocks[1]["documents"].tolist() == [0] * 6 + [1] * 2  # numbered from 0 in every block
    assert np.load(tmp_path / "train-0.tokens.npy", allow_pickle=False).dtype == np.uint16
    joined = Blocks(tmp_path / "train-0", joined=True)[1]
    assert joined["documents"].tolist() == [0] * 8
    assert joined["positions"].tolist() == list(range(8))


def test_large_numbers_and_padding(tmp_path: Path) -> None:
    block = Block(np.array([70_000, 1, 0]), np.array([7, 3, -1]), np.array([0, 0, 0]), np.zeros(3, bool))
    write_blocks(tmp_path / "x", [block], 3, vocabulary=100_000)
    read = Blocks(tmp_path / "x")[0]
    assert read["tokens"].tolist() == [70_000, 1, 0]
    assert read["documents"].tolist() == [1, 0, -1]
    assert Blocks(tmp_path / "x", joined=True)[0]["documents"].tolist() == [0, 0, -1]


def test_no_blocks_at_all(tmp_path: Path) -> None:
    assert write_blocks(tmp_path / "x", [], 8, vocabulary=10) == 0
    blocks = Blocks(tmp_path / "x")
    assert len(blocks) == 0
    with pytest.raises(IndexError):
        blocks[0]
