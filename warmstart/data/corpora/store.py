"""The rows of corpora in the cache: fetched, read and written once, then streamed from disk without a network.

    cache/corpora/archives/<registry-name-version>/    the archive as the registry gave it
    cache/corpora/rows/<name>-<language>-<digest>/     rows.jsonl.zst, and the facts: versions, hashes, rows, bytes;
                                                       media.bin where rows have pictures or sounds, which then refer
                                                       to places in it (warmstart/data/media.py)

The digest is that of everything that decides the rows (pinned packages, the reader's version), so a new version of
warmstart never reads the rows of another one's reader. The content's own digest is the source's fingerprint.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.corpora.corpus import Corpus, Row
from warmstart.data.corpora.fetch import archive, index_text, sha256
from warmstart.data.corpora.prose import distinct_paragraphs
from warmstart.data.corpora.registry import find
from warmstart.data.corpora.unpack import text_digest, unpack
from warmstart.data.media import IN_CACHE, MEDIA_COLUMNS
from warmstart.errors import DataError, UserError

Notify = Callable[[str], None]
FORMAT = 1
ROWS = "rows.jsonl.zst"
MEDIA = "media.bin"
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, SyntaxError, OSError, struct.error, zlib.error)


@dataclass(frozen=True)
class Facts:
    """What was found when a corpus was fetched.

    Attributes:
        rows: how many.
        text_bytes: UTF-8 bytes of all texts.
        digest: of all rows; the fingerprint.
        packages: registry, name, version and sha256 of what was read.
        warnings: where a newer version than the pinned one was read.
    """

    corpus: str
    language: str
    rows: int
    text_bytes: int
    digest: str
    packages: list[dict[str, str]]
    warnings: list[str]


def fetch(name: str, language: str | None = None, notify: Notify | None = None) -> Facts:
    """The facts of a corpus, which is fetched where it is missing.

    Raises:
        DataError: there is no such corpus or language; it cannot be fetched; it is not what it should be.
        UserError: the cache cannot be written.
    """
    corpus = find(name)
    language = checked_language(corpus, language)
    facts = entry(_folder(corpus, language), lambda draft: _make(draft, corpus, language, notify), notify=notify)
    return Facts(**facts)


def rows(name: str, language: str | None = None, notify: Notify | None = None) -> Iterator[Row]:
    """The rows of a corpus, in constant memory; fetched where it is missing. Errors are those of `fetch`."""
    fetch(name, language, notify)
    corpus = find(name)
    yield from read_rows(_folder(corpus, checked_language(corpus, language)))


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows that `write_rows` wrote into a folder of the cache; pictures and sounds are places in it."""
    media = f"{IN_CACHE}{(folder / MEDIA).relative_to(cache_folder()).as_posix()}"
    with pyarrow.input_stream(str(folder / ROWS), compression="zstd") as stream:
        for line in io.BufferedReader(stream, 2**16):
            row = json.loads(line)
            for column in MEDIA_COLUMNS:
                if column in row:
                    row[column] = media + row[column].partition(" ")[0]
            yield row


def is_here(name: str, language: str | None = None) -> bool:
    """Whether a corpus is in the cache (it is checked when it is opened)."""
    corpus = find(name)
    return (_folder(corpus, checked_language(corpus, language)) / "meta.json").is_file()


def checked_language(corpus: Corpus, language: str | None) -> str:
    """The language itself, or the corpus's first.

    Raises:
        DataError: the corpus has no such language.
    """
    if language is None:
        return corpus.languages[0]
    if language not in corpus.languages:
        known = ", ".join(corpus.languages)
        raise DataError(f"the corpus '{corpus.name}' has no language '{language}'; languages: {known}")
    return language


def _folder(corpus: Corpus, language: str) -> Path:
    return cache_folder() / "corpora" / "rows" / f"{corpus.name}-{language}-{_key(corpus, language)[:12]}"


def _key(corpus: Corpus, language: str) -> str:
    packages = [asdict(package) for package in corpus.packages_for(language)]
    for package in packages:
        if not package["into"]:  # so that rows read before there was such a thing are still good
            del package["into"]
    parts = [(_key(find(name), find(name).languages[0]), dict(where)) for name, where in corpus.parts]
    return digest(FORMAT, corpus.name, corpus.version, language, packages, parts)


def _make(draft: Path, corpus: Corpus, language: str, notify: Notify | None) -> dict[str, Any]:
    extracted = Path(tempfile.mkdtemp(prefix=".tmp-", dir=draft.parent))
    try:
        packages, warnings = _extract(extracted, corpus, language, notify)
        if notify:
            for warning in warnings:
                notify(f"warning: {warning}")
            notify(f"reading {corpus.name}")
        count, size, found = write_rows(draft / ROWS, _read(corpus, language, extracted, notify))
    finally:
        shutil.rmtree(extracted, ignore_errors=True)
    if not count:
        raise DataError(f"corpus '{corpus.name}' ({language}): no rows were found in what was fetched")
    return asdict(Facts(corpus.name, language, count, size, found, packages, warnings))


def _extract(
    folder: Path, corpus: Corpus, language: str, notify: Notify | None
) -> tuple[list[dict[str, str]], list[str]]:
    """Fetches the packages and takes out the files that are read; (what was read, warnings)."""
    packages, warnings = [], []
    for package in corpus.packages_for(language):
        if package.registry == "debian-index":
            _, translation = index_text(package, language, folder, notify)
            text = sha256(translation)
            found = {"version": package.version, "sha256": text}
        else:
            fetched = archive(package, notify)
            files = unpack(fetched.path, package.files, folder / package.into)
            text = text_digest(folder, files) if package.text_sha256 else ""
            found = {"version": fetched.version, "sha256": fetched.sha256}
        expected = package.text_sha256
        if expected and text != expected:
            warnings.append(
                f"{corpus.name}: {package.name} {found['version']} has another text than the pinned {package.version} "
                f"(sha256 {text[:12]}, not {expected[:12]}); numbers from the two are not comparable"
            )
        packages.append({"registry": package.registry, "name": package.name, **found})
    return packages, warnings


def _read(corpus: Corpus, language: str, extracted: Path, notify: Notify | None) -> Iterator[Row]:
    if corpus.read is None:
        parts = (
            row
            for name, where in corpus.parts
            for row in rows(name, None, notify)
            if all(row.get(column) == value for column, value in where.items())
        )
        yield from distinct_paragraphs(parts)
        return
    try:
        for row in corpus.read(extracted, language):
            if row["text"].strip():
                yield {"text": row.pop("text"), "source": corpus.name, "id": row.pop("id"), "language": language, **row}
    except UserError:
        raise
    except UNREADABLE as error:
        raise DataError(
            f"corpus '{corpus.name}' cannot be read: {type(error).__name__}: {error}; is it a newer version?"
        ) from error


def write_rows(path: Path, found: Iterator[Row]) -> tuple[int, int, str]:
    """(rows, bytes of text, digest of all rows). Pictures and sounds, which readers give as bytes, go to a file of
    their own; the row keeps their place and their digest."""
    hashed = hashlib.blake2b(digest_size=16)
    count = size = place = 0
    media = path.with_name(MEDIA)
    with pyarrow.output_stream(str(path), compression="zstd") as stream, media.open("wb") as beside:
        for row in found:
            for column in MEDIA_COLUMNS:
                content = row.get(column)
                if content is not None:
                    beside.write(content)
                    row[column] = f"#{place}+{len(content)} {hashlib.blake2b(content, digest_size=8).hexdigest()}"
                    place += len(content)
            line = json.dumps({k: v for k, v in row.items() if v is not None}, ensure_ascii=False).encode() + b"\n"
            stream.write(line)
            hashed.update(line)
            count += 1
            size += len(row["text"].encode())
    if not place:
        media.unlink()
    return count, size, hashed.hexdigest()
