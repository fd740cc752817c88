"""From a recipe's data to blocks: the split, the statistics, the cache, the errors."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import GivenRows

from warmstart.data.batch.encode import Encoder
from warmstart.data.curated import curated
from warmstart.data.documents import documents_key, is_held_out
from warmstart.data.engine import Engine
from warmstart.data.prepare import Prepared, documents, prepare
from warmstart.errors import DataError, ModelError
from warmstart.models.tokenizer import train_tokenizer
from warmstart.recipe_data import Data

TEXTS = [f"Story {number}. " + f"word{number} and more words, " * (number % 7 + 1) for number in range(80)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS, 300, "causal")


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def data_of(*paths: Path, **settings: Any) -> Data:
    sources = [{"type": "files", "path": str(path), "label": path.stem} for path in paths]
    return Data.model_validate({"source": sources, "length": 16, "split": {"validation": 0.2}} | settings)


def decoded(prepared: Prepared, tokenizer: Any, side: str = "train") -> str:
    blocks = [block for source in getattr(prepared, side) for block in source]
    return tokenizer.decode(np.concatenate([block["tokens"] for block in blocks]))


def test_every_document_is_on_one_side_and_whole(tmp_path: Path, tokenizer: Any) -> None:
    prepared = prepare(data_of(write(tmp_path / "a.jsonl", TEXTS)), tokenizer)
    held_out = [text for text in TEXTS if is_held_out(text, 0.2)]
    trained = [text for text in TEXTS if not is_held_out(text, 0.2)]
    assert 6 < len(held_out) < 30
    for side, texts in (("train", trained), ("validation", held_out)):
        expected = "".join(text + "<|endoftext|>" for text in texts)
        found = decoded(prepared, tokenizer, side)
        assert expected.startswith(found)
        assert len(expected) - len(found) < 16 * 12  # the dropped tail: less than one block of tokens
    facts = prepared.statistics
    assert facts["documents"] == 80
    assert facts["train_documents"] == len(trained)
    assert facts["validation_documents"] == len(held_out)
    assert facts["bytes"] == sum(len(text.encode()) for text in TEXTS)
    assert facts["train_tokens"] // 16 == len(prepared.train[0])
    size = sum(len(text.encode()) for text in held_out)
    assert prepared.bytes_per_token == pytest.approx(size / facts["validation_tokens"])
    assert prepared.first_tokens(40).shape == (2, 16)
    assert prepared.first_tokens(1).shape == (1, 16)


def test_the_split_does_not_depend_on_order_or_white_space(tmp_path: Path, tokenizer: Any) -> None:
    prepare(data_of(write(tmp_path / "a.jsonl", TEXTS)), tokenizer)
    turned = list(documents(data_of(write(tmp_path / "b.jsonl", TEXTS[::-1]))))
    assert turned[::-1] == list(documents(data_of(tmp_path / "a.jsonl")))
    assert is_held_out("a  b\n", 0.5) == is_held_out("a b", 0.5)
    share = np.mean([is_held_out(f"text {number}", 0.3) for number in range(4000)])
    assert share == pytest.approx(0.3, abs=0.03)


def test_duplicates_go_over_all_sources(tmp_path: Path, tokenizer: Any) -> None:
    first, second = write(tmp_path / "a.jsonl", TEXTS[:50]), write(tmp_path / "b.jsonl", TEXTS[30:])
    prepared = prepare(data_of(first, second), tokenizer)
    assert prepared.statistics["dropped_exact_duplicates"] == 20
    assert prepared.statistics["documents"] == 80
    assert prepared.source_names == ["a", "b"]
    assert prepare(data_of(first, second, curate=[]), tokenizer).statistics["documents"] == 100
    again = prepare(data_of(first, first, curate=[]), tokenizer)
    assert again.source_names == ["a", "a-2"]
    trained = set(documents(data_of(first, first, curate=[])))
    assert not any(is_held_out(text, 0.2) for text in trained)  # copies stay on one side even when they are kept


def test_skipped_rows_are_counted_and_shown(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    path.write_text(path.read_text() + '{"text": null}\n' * 9)
    with pytest.raises(DataError, match="line 81: column 'text' must hold text, found null"):
        prepare(data_of(path), tokenizer)
    notes: list[str] = []
    prepared = prepare(data_of(path, on_error="skip"), tokenizer, notify=notes.append)
    assert prepared.statistics["rows_skipped"] == 9
    assert len(notes) == 5
    assert "skipped: " in notes[0]
    assert "line 81" in notes[0]


def test_max_documents(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    assert prepare(data_of(path, max_documents=30), tokenizer).statistics["documents"] == 30


def test_joined_documents(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    apart, joined = (prepare(data_of(path, documents=how), tokenizer) for how in ("isolated", "joined"))
    assert max(block["documents"].max() for block in apart.train[0]) > 0
    assert all(block["positions"].tolist() == list(range(16)) for block in joined.train[0])
    assert (joined.train[0][3]["tokens"] == apart.train[0][3]["tokens"]).all()
    assert joined.fingerprint != apart.fingerprint


def test_names_of_special_tokens_in_a_text_are_text(tmp_path: Path, tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    ids = Encoder(tokenizer)(["a<|endoftext|>b"])[0].ids.tolist()
    assert ids.count(end) == 1
    assert ids[-1] == end
    assert tokenizer.decode(ids[:-1]) == "a<|endoftext|>b"
    masked = train_tokenizer(TEXTS, 300, "masked")
    ids = Encoder(masked)(["a [MASK] b"])[0].ids.tolist()
    assert [ids[0], ids[-1]] == [masked.cls_token_id, masked.sep_token_id]
    assert masked.mask_token_id not in ids


def test_fingerprint_changes_with_what_matters(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    before = prepare(data_of(path), tokenizer).fingerprint
    assert prepare(data_of(path), tokenizer).fingerprint == before
    assert prepare(data_of(path, mix="proportional"), tokenizer).fingerprint == before
    others = [
        prepare(data_of(path, length=32), tokenizer),
        prepare(data_of(path, split={"validation": 0.3}), tokenizer),
        prepare(data_of(path, curate=[]), tokenizer),
        prepare(data_of(path), train_tokenizer(TEXTS, 301, "causal")),
        prepare(data_of(write(path, [*TEXTS, "One more."])), tokenizer),
    ]
    assert len({before, *(other.fingerprint for other in others)}) == 6


def test_using_the_tokenizer_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    own = train_tokenizer(TEXTS, 300, "causal")
    data = data_of(write(tmp_path / "a.jsonl", TEXTS))
    before = prepare(data, own).fingerprint
    own(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert prepare(data, own).fingerprint == before
    assert max(len(ids) for ids in Encoder(own)(TEXTS)) > 2


def test_a_broken_cache_is_made_again(tmp_path: Path, tokenizer: Any) -> None:
    data = data_of(write(tmp_path / "a.jsonl", TEXTS))
    first = decoded(prepare(data, tokenizer, cache_dir=tmp_path / "cache"), tokenizer)
    file = next((tmp_path / "cache").rglob("train-0.tokens.npy"))
    file.write_bytes(file.read_bytes()[:-7])
    notes: list[str] = []
    again = prepare(data, tokenizer, cache_dir=tmp_path / "cache", notify=notes.append)
    assert decoded(again, tokenizer) == first
    assert "train-0.tokens.npy" in notes[0]
    assert [p.name for p in (tmp_path / "cache" / "blocks").iterdir()] == [file.parent.name]
    assert not list(file.parent.glob("*.ids"))


def _prepare(arguments: tuple[Data, Any, Path]) -> tuple[str, int]:
    data, tokenizer, cache = arguments
    prepared = prepare(data, tokenizer, cache_dir=cache)
    return prepared.fingerprint, int(sum(block["tokens"].sum() for block in prepared.train[0]))


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path, tokenizer: Any) -> None:
    work = (data_of(write(tmp_path / "a.jsonl", TEXTS)), tokenizer, tmp_path / "cache")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(_prepare, [work] * 4, chunksize=1)
    assert len(set(found)) == 1
    assert len(os.listdir(tmp_path / "cache" / "blocks")) == 1


def test_empty_corpus(tmp_path: Path, tokenizer: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n")
    with pytest.raises(DataError, match="the corpus is empty: no document in a"):
        prepare(data_of(path), tokenizer)
    path.write_text("{}\n{}\n")
    with pytest.raises(DataError, match=r"the corpus is empty.*\(2 rows were skipped\)"):
        prepare(data_of(path, on_error="skip"), tokenizer)


def test_an_empty_side(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS[:2])
    with pytest.raises(DataError, match="holds out all 2 documents"):
        prepare(data_of(path, split={"validation": 0.999}), tokenizer)
    with pytest.raises(DataError, match="holds out all 2 documents"):
        list(documents(data_of(path, split={"validation": 0.999})))
    with pytest.raises(DataError, match="holds out none of the 2 documents"):
        prepare(data_of(path, split={"validation": 0.001}), tokenizer)


def test_too_few_tokens(tmp_path: Path, tokenizer: Any) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    short = write(tmp_path / "b.jsonl", [next(c for c in "xyzuvw" if not is_held_out(c, 0.2))])
    with pytest.raises(DataError, match=r"data\.length: the validation side has \d+ tokens, too few .* block of 512"):
        prepare(data_of(path, length=512, split={"validation": 0.1}), tokenizer)
    with pytest.raises(DataError, match="training side of source 'b' has 2 tokens, too few for one block of 16"):
        prepare(data_of(path, short), tokenizer)


def test_a_tokenizer_without_an_end(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(TEXTS, 300, "causal").backend_tokenizer)
    with pytest.raises(ModelError, match="no end-of-text token"):
        prepare(data_of(write(tmp_path / "a.jsonl", TEXTS)), bare)
    with pytest.raises(ModelError, match="no fast form"):
        prepare(data_of(tmp_path / "a.jsonl"), object())


def test_the_validation_side_alone(tmp_path: Path, tokenizer: Any) -> None:
    """The same held-out blocks as with both sides, under a key of their own, without tokenising the training side."""
    data = data_of(write(tmp_path / "a.jsonl", TEXTS), write(tmp_path / "b.jsonl", [t + "!" for t in TEXTS[:30]]))
    half = prepare(data, tokenizer, sides=("validation",), cache_dir=tmp_path / "cache")
    both = prepare(data, tokenizer, cache_dir=tmp_path / "cache")
    assert half.fingerprint != both.fingerprint
    assert half.train == []
    assert decoded(half, tokenizer, "validation") == decoded(both, tokenizer, "validation")
    assert half.bytes_per_token == both.bytes_per_token
    assert half.statistics["validation_tokens"] == both.statistics["validation_tokens"]
    assert half.statistics["documents"] == both.statistics["validation_documents"]
    assert not any(name.startswith("train") for name in half.statistics)


def test_rows_with_the_same_value_stay_on_one_side() -> None:
    """Also where rows have no value (then their text decides), in one process and in two."""
    rows = [{"text": text, "book": f"book {n // 4}" if n % 10 else None} for n, text in enumerate(TEXTS)]
    found = []
    for engine in (Engine(), Engine(workers=2, batch=7)):
        data = data_of(
            split={"validation": 0.3, "by": "book"}, source=GivenRows(given=rows), max_documents=79 + engine.workers
        )
        columns = list(curated(data, engine=engine).batches(0))
        sides = [
            (book, mark / 2**64 < 0.3)
            for batch in columns
            for book, mark in zip(batch["book"], batch["mark"], strict=True)
        ]
        by_book: dict[str, set[bool]] = {}
        for book, side in sides:
            if book is not None:
                by_book.setdefault(book, set()).add(side)
        assert all(len(some) == 1 for some in by_book.values())
        assert len(by_book) == 20
        assert {side for some in by_book.values() for side in some} == {True, False}
        assert {side for book, side in sides if book is None} == {True, False}
        found.append(sides)
    assert found[0] == found[1]
    assert documents_key(
        data_of(split={"validation": 0.3, "by": "book"}, source=GivenRows(given=rows))
    ) != documents_key(data_of(split={"validation": 0.3}, source=GivenRows(given=rows)))
    with pytest.raises(DataError, match=r"data\.split\.by: none of the 80 rows has a value in 'boook'"):
        curated(data_of(split={"validation": 0.3, "by": "boook"}, source=GivenRows(given=rows)))
