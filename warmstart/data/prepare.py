"""Documents to blocks of tokens, once: tokenise, pack, and keep the blocks in the cache.

Two passes in constant memory. The first writes each side's token ids to a plain file as the documents come;
the second reads that file document by document through the packing. So a packing sees its documents one
side and one source at a time, and no corpus is ever held in memory. Blocks are read back as memory maps.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from warmstart.data.batch import Block, Tokens
from warmstart.data.batch.blocks import Blocks, write_blocks
from warmstart.data.batch.encode import Encoder
from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.curated import FORMAT, SHOWN_SKIPS
from warmstart.data.documents import (
    Document,
    all_documents,
    all_held_out,
    all_rows,
    documents,
    documents_key,
    names,
)
from warmstart.data.engine import Engine
from warmstart.data.media import check_media
from warmstart.data.records import Records, RecordsFile
from warmstart.data.steps import step_names
from warmstart.errors import DataError

if TYPE_CHECKING:
    from warmstart.recipe_data import Data

__all__ = ["Prepared", "documents", "prepare"]

SIDES = ("train", "validation")
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 2**18  # a tokenizer needs about 150 bytes for each token while it works
NOTE_SECONDS = 10.0
FACTS = np.dtype([("length", np.int64), ("context", np.int32), ("score", np.float32)])


@dataclass
class Prepared:
    """A stage's data, ready to train on.

    Attributes:
        train: the training `Blocks` (or, where rows stay rows, `Records`) of each source.
        validation: the held-out ones of each source; a small source may have none.
        source_names: what metrics call each source.
        fingerprint: changes with the documents, the settings, the tokenizer, or the library's format.
        statistics: whole numbers: documents, dropped_<curation step>, rows_skipped, train_documents,
            validation_documents, train_tokens, validation_tokens, of those how many are context
            (train_context_tokens, ...) and how many the packing put into blocks (train_packed_tokens,
            train_packed_context_tokens, ...), bytes (UTF-8, both sides, without contexts).
        bytes_per_token: of the validation side, context left aside; turns nats per token into bits per byte.
    """

    train: list[Any]
    validation: list[Any]
    source_names: list[str]
    fingerprint: str
    statistics: dict[str, int]
    bytes_per_token: float

    def first_tokens(self, count: int, tokenizer: Any = None) -> torch.Tensor:
        """About `count` training tokens in whole blocks, at least one: int64 `(blocks, length)`.

        Blocks, because a model may take no more than `length` positions. Where rows stay rows, the tokens of the first
        texts one after another, `(tokens,)`.
        """
        blocks = next(blocks for blocks in self.train if len(blocks))
        if isinstance(blocks, Records):
            some = (blocks[row]["text"] for row in range(min(len(blocks), count)))
            return torch.tensor(tokenizer(" ".join(some))["input_ids"][:count])
        rows = range(min(len(blocks), max(1, count // blocks.length)))
        return torch.from_numpy(np.stack([blocks[row]["tokens"] for row in rows]))


def prepare(
    data: Data,
    tokenizer: Any,
    *,
    cache_dir: Path | None = None,
    notify: Callable[[str], None] | None = None,
    engine: Engine | None = None,
    sides: Sequence[str] = SIDES,
) -> Prepared:
    """A recipe's data as blocks, from the cache where they were made before.

    Args:
        tokenizer: a fast tokenizer of `transformers`; its special tokens mark the documents' ends.
        cache_dir: default: `$WARMSTART_CACHE` or `~/.cache/warmstart`.
        notify: told in one line about progress, skipped rows and broken cache entries.
        engine: where the row steps run; it does not change the blocks.
        sides: `("validation",)` leaves the training documents untokenised: `train` is then an empty list.

    Raises:
        DataError: a row that cannot be used, an empty corpus, an empty side, or too few tokens for one block.
        ModelError: a tokenizer that cannot mark a document's end.
        UserError: the cache cannot be written.
    """
    if data.packing.whole_rows:
        return _whole_rows(data, cache_dir, notify, engine, sides)
    encoder = Encoder(tokenizer, begin=data.begin_of_text, end=data.end_of_text)
    decisive = [FORMAT, documents_key(data), data.length, data.packing.model_dump(mode="json"), encoder.key]
    key = digest(*decisive) if tuple(sides) == SIDES else digest(*decisive, list(sides))
    folder = (cache_dir or cache_folder()) / "blocks" / key

    def make(draft: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        return _make(
            draft,
            data,
            encoder,
            all_documents(data, counts, notify, engine=engine, cache_dir=cache_dir),
            counts,
            notify,
            sides,
        )

    facts = entry(folder, make, notify=notify)
    blocks = {
        side: [
            Blocks(folder / f"{side}-{number}", joined=data.documents == "joined")
            for number in range(len(data.sources))
        ]
        for side in sides
    }
    return Prepared(
        blocks.get("train", []),
        blocks.get("validation", []),
        names(data),
        digest(key, data.documents),
        facts["statistics"],
        facts["bytes_per_token"],
    )


def _whole_rows(
    data: Data,
    cache_dir: Path | None,
    notify: Callable[[str], None] | None,
    engine: Engine | None,
    sides: Sequence[str],
) -> Prepared:
    """`prepare` for a packing that leaves rows as they are."""
    key = digest(FORMAT, "rows", documents_key(data), data.on_error, list(sides))
    folder = (cache_dir or cache_folder()) / "records" / key
    facts = entry(folder, lambda draft: _write_rows(draft, data, cache_dir, notify, engine, sides), notify=notify)
    records = {
        side: [Records(folder / f"{side}-{number}.arrow") for number in range(len(data.sources))] for side in sides
    }
    return Prepared(
        records.get("train", []),
        records.get("validation", []),
        names(data),
        key,
        facts["statistics"],
        facts["bytes_per_token"],
    )


def _write_rows(
    folder: Path,
    data: Data,
    cache_dir: Path | None,
    notify: Callable[[str], None] | None,
    engine: Engine | None,
    sides: Sequence[str],
) -> dict[str, Any]:
    """Writes the rows of the sides of every source into `folder`; what they refer to is opened once."""
    counts: Counter[str] = Counter(dict.fromkeys(["documents", "rows_skipped", *(f"{s}_documents" for s in sides)], 0))
    with ExitStack() as stack:
        files = {
            (side, number): stack.enter_context(RecordsFile(folder / f"{side}-{number}.arrow"))
            for side in sides
            for number in range(len(data.sources))
        }
        for number, held_out, row in all_rows(data, counts, notify, engine=engine, cache_dir=cache_dir):
            side = SIDES[held_out]
            if side not in sides:
                continue
            try:
                check_media(row)
            except DataError as error:
                if data.on_error == "raise":
                    raise DataError(f"source '{names(data)[number]}', row {row['id']}: {error}") from error
                counts["rows_skipped"] += 1
                if notify and counts["rows_skipped"] <= SHOWN_SKIPS:
                    notify(f"warning: skipped: row {row['id']}: {error}")
                continue
            files[side, number].write(row, row.get("score"))
            counts["documents"] += 1
            counts[f"{side}_documents"] += 1
            counts[f"{side}_bytes"] += len(row["text"].encode())
    _check_sides(data, counts, sides)
    for number, name in enumerate(names(data) if "train" in sides else []):
        if not files["train", number].count:
            raise DataError(f"the training side of source '{name}' has no rows")
    statistics = {name: counts[name] for name in counts if "bytes" not in name}
    statistics["bytes"] = counts["train_bytes"] + counts["validation_bytes"]
    mean = counts["validation_bytes"] / max(counts["validation_documents"], 1)
    return {"statistics": statistics, "bytes_per_token": mean or 1.0}


def _make(
    folder: Path,
    data: Data,
    encoder: Encoder,
    found: Iterator[Document],
    counts: Counter[str],
    notify: Callable[[str], None] | None,
    sides: Sequence[str],
) -> dict[str, Any]:
    """Writes the blocks of the sides of every source into `folder`."""
    with ExitStack() as stack:
        spools = {
            (side, number): stack.enter_context(_Spool(folder / f"{side}-{number}"))
            for side in sides
            for number in range(len(data.sources))
        }
        wanted = (document for document in found if SIDES[document.held_out] in sides)
        _tokenise(data, encoder, wanted, spools, counts, notify, sides)
    _check_sides(data, counts, sides)
    blocks = {}
    for (side, number), spool in spools.items():
        packed = data.packing.pack(spool.read(), data.length, encoder.padding)
        name = folder / f"{side}-{number}"
        counted = _counted(packed, counts, side)
        blocks[side, number] = write_blocks(name, counted, data.length, encoder.vocabulary, spool.scores())
        spool.remove()
    _check_blocks(data, blocks, counts, sides)
    tokens = counts["validation_tokens"] - counts["validation_context_tokens"]
    shown = [name for name in counts if "bytes" not in name and "-" not in name]
    statistics = {name: counts[name] for name in shown}
    statistics["bytes"] = counts["train_bytes"] + counts["validation_bytes"]
    return {"statistics": statistics, "bytes_per_token": counts["validation_bytes"] / tokens}


def _counted(packed: Iterator[Block], counts: Counter[str], side: str) -> Iterator[Block]:
    """The same blocks. Counts the tokens that are in them: a packing may drop some."""
    for block in packed:
        counts[f"{side}_packed_tokens"] += int((block.documents >= 0).sum())
        counts[f"{side}_packed_context_tokens"] += int(block.context.sum())
        yield block


def _tokenise(
    data: Data,
    encoder: Encoder,
    found: Iterator[Document],
    spools: dict[tuple[str, int], _Spool],
    counts: Counter[str],
    notify: Callable[[str], None] | None,
    sides: Sequence[str],
) -> None:
    """All documents to token ids, each to the file of its side and source, in batches of bounded size."""
    steps = [*step_names(list(data.curate)), *step_names(list(data.rewrite))]
    names_of_counts = ["documents", *(f"dropped_{name}" for name in steps)]
    names_of_counts += [
        "rows_skipped",
        *(f"{side}_documents" for side in sides),
        *(f"{side}_tokens" for side in sides),
        *(f"{side}_context_tokens" for side in sides),
        *(f"{side}_packed_tokens" for side in sides),
        *(f"{side}_packed_context_tokens" for side in sides),
    ]
    counts.update(dict.fromkeys(names_of_counts, 0))
    last = time.monotonic()
    for batch in _batches(found):
        tokens = encoder([document.text for document in batch], [document.context for document in batch])
        for document, ids in zip(batch, tokens, strict=True):
            if ids.context >= data.length:
                error = _no_room(data, document, ids)
                if data.on_error == "raise":
                    raise error
                counts["rows_skipped"] += 1
                if notify and counts["rows_skipped"] <= SHOWN_SKIPS:
                    notify(f"warning: skipped: {error}")
                continue
            side = SIDES[document.held_out]
            spools[side, document.source].write(ids, document.score)
            counts["documents"] += 1
            counts[f"{side}_documents"] += 1
            counts[f"{side}_tokens"] += len(ids)
            counts[f"{side}-{document.source}_tokens"] += len(ids)
            counts[f"{side}_context_tokens"] += ids.context
            counts[f"{side}_bytes"] += len(document.text.encode())
        if notify and time.monotonic() - last > NOTE_SECONDS:
            last = time.monotonic()
            size = (counts["train_bytes"] + counts["validation_bytes"]) / 1e6
            notify(f"tokenised {counts['documents']:,} documents, {size:,.0f} MB")


def _no_room(data: Data, document: Document, ids: Tokens) -> DataError:
    return DataError(
        f"source '{names(data)[document.source]}': the context {document.context[:60]!r} before the text "
        f"{document.text[:40]!r} takes {ids.context} tokens, which leaves no room for the text in a block of "
        f"data.length {data.length}; shorten it or raise data.length"
    )


def _batches(found: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in found:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Spool:
    """Tokens of documents in plain temporary files: ids, and for each document its length, context and score."""

    def __init__(self, name: Path) -> None:
        self._paths = (name.with_name(f"{name.name}.ids"), name.with_name(f"{name.name}.facts"))
        self._scored = False

    def __enter__(self) -> _Spool:
        self._ids, self._facts = (path.open("wb") for path in self._paths)
        return self

    def __exit__(self, *_: object) -> None:
        self._ids.close()
        self._facts.close()

    def write(self, document: Tokens, score: float | None) -> None:
        self._ids.write(document.ids.astype(np.int32).tobytes())
        facts = (len(document), document.context, np.nan if score is None else score)
        self._facts.write(np.array([facts], dtype=FACTS).tobytes())
        self._scored |= score is not None

    def read(self) -> Iterator[Tokens]:
        with self._paths[0].open("rb") as ids, self._paths[1].open("rb") as facts:
            while len(some := np.fromfile(facts, dtype=FACTS, count=4096)):
                for length, context, _ in some:
                    yield Tokens(np.fromfile(ids, dtype=np.int32, count=int(length)), int(context))

    def scores(self) -> np.ndarray | None:
        """The score of each document, NaN where it has none; None where none has one."""
        return np.memmap(self._paths[1], dtype=FACTS, mode="r")["score"] if self._scored else None

    def remove(self) -> None:
        for path in self._paths:
            path.unlink()


def _check_sides(data: Data, counts: Counter[str], sides: Sequence[str]) -> None:
    if "train" in sides and not counts["train_documents"]:
        raise all_held_out(data, counts["documents"])
    if "validation" in sides and not counts["validation_documents"]:
        total = f"{counts['documents']} " if "train" in sides else ""  # else the others were not counted
        raise DataError(
            f"data.split.validation: {data.split.validation} holds out none of the "
            f"{total}documents; raise it or add documents"
        )


def _check_blocks(data: Data, blocks: dict[tuple[str, int], int], counts: Counter[str], sides: Sequence[str]) -> None:
    """Every source must have something to train on, and at least one something held out."""
    for number, name in enumerate(names(data) if "train" in sides else []):
        if not blocks["train", number]:
            found = counts[f"train-{number}_tokens"]
            raise DataError(_too_few(data, f"the training side of source '{name}'", found))
    if "validation" in sides and not any(blocks["validation", number] for number in range(len(data.sources))):
        raise DataError(_too_few(data, "the validation side", counts["validation_tokens"]))


def _too_few(data: Data, where: str, tokens: int) -> str:
    return (
        f"data.length: {where} has {tokens} tokens, too few for one block of {data.length}; lower it or add documents"
    )
