"""One document per block; paragraphs as documents."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.batch import Tokens
from warmstart.data.batch.single import Single
from warmstart.data.rewrite.paragraphs import Paragraphs, paragraphs

LENGTH, PADDING = 8, 999
corpora = st.lists(st.integers(1, 30), max_size=6)


def corpus(lengths: list[int]) -> list[Tokens]:
    """Documents whose tokens are all different; the first two tokens are context."""
    starts = np.cumsum([0, *lengths])
    return [Tokens(np.arange(start, start + n, dtype=np.int32), 2) for start, n in zip(starts, lengths, strict=False)]


@given(corpora)
def test_every_token_once_and_one_document_per_block(lengths):
    blocks = list(Single().pack(corpus(lengths), LENGTH, PADDING))
    real = [block.tokens[block.documents >= 0] for block in blocks]
    assert np.concatenate([[], *real]).tolist() == list(range(sum(lengths)))
    for block, tokens in zip(blocks, real, strict=True):
        count = len(tokens)
        assert len(set(block.documents[:count])) == 1
        assert (block.documents[count:] == -1).all()
        assert (block.tokens[count:] == PADDING).all()
        assert block.positions.tolist() == list(range(LENGTH))
        assert not block.context[count:].any()
    assert sum(int(block.context.sum()) for block in blocks) == sum(min(n, 2) for n in lengths)


@given(corpora)
def test_a_long_document_is_cut_where_asked(lengths):
    blocks = list(Single(longer="cut").pack(corpus(lengths), LENGTH, PADDING))
    starts = np.cumsum([0, *lengths])
    found = [block.tokens[block.documents >= 0].tolist() for block in blocks]
    assert found == [list(range(start, start + min(n, LENGTH))) for start, n in zip(starts, lengths, strict=False)]


def test_paragraphs_end_at_empty_lines():
    text = "\nOne\ntwo.\n\n\n   three\n  \t\nfour\n\nx\n"
    assert paragraphs(text) == ["One\ntwo.", "   three", "four", "x"]
    assert paragraphs(text, shortest=4) == ["One\ntwo.", "   three", "four"]
    assert paragraphs("\n \n") == []


def test_paragraphs_are_rows_with_the_columns_of_their_document():
    columns = {"text": ["a\n\nb", "c", "\n"], "id": ["x", "y", "z"], "year": [1, 2, 3]}
    assert Paragraphs().apply(columns) == {"text": ["a", "b", "c"], "id": ["x#0", "x#1", "y#0"], "year": [1, 1, 2]}
