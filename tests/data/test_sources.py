"""Sources: what they read, and one clear line for each way in which a file can be broken."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from warmstart.data.sources import Source
from warmstart.data.sources.files import Files
from warmstart.data.sources.hugging_face import HuggingFace
from warmstart.data.sources.python_stdlib import PythonStdlib
from warmstart.data.sources.union import Union
from warmstart.errors import DataError


def texts(source: Source) -> list[str]:
    return [row["text"] for row in source.rows()]


def skipped(source: Source) -> tuple[list[str], list[str]]:
    """The usable texts, and the messages of the rows that are not."""
    messages: list[str] = []
    found = [row["text"] for row in source.rows(lambda error: messages.append(str(error)))]
    return found, messages


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, **columns: Any) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


# ---- files: what is read -------------------------------------------------------------------------------------------


def test_plain_text_by_file_line_and_paragraph(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.txt", "one\ntwo\n\n\nthree\r\nfour\n"))
    assert texts(Files(path=path)) == ["one\ntwo\n\n\nthree\nfour\n"]
    assert texts(Files(path=path, documents="line")) == ["one", "two", "three", "four"]
    rows = list(Files(path=path, documents="paragraph", label="book").rows())
    assert [row["text"] for row in rows] == ["one\ntwo", "three\nfour"]
    assert [row["id"] for row in rows] == [f"{path}:1", f"{path}:5"]
    assert {row["source"] for row in rows} == {"book"}


ROWS = ["eins", "zwei\nZeilen", 'drei "Zitate", Ärger']


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv"])
def test_tables_plain_and_compressed(tmp_path: Path, form: str, ending: str) -> None:
    if form == "jsonl":
        content = "".join(json.dumps({"n": 1, "text": text}) + "\n" for text in ROWS)
    else:
        delimiter = "," if form == "csv" else "\t"
        quoted = ['"' + text.replace('"', '""') + '"' for text in ROWS]
        content = f"n{delimiter}text\r\n" + "".join(f"1{delimiter}{text}\r\n" for text in quoted)
    raw = content.encode()
    packed = {"": raw, ".gz": gzip.compress(raw), ".zst": zstandard.compress(raw)}[ending]
    path = write(tmp_path / f"a.{form}{ending}", packed)
    assert texts(Files(path=str(path))) == ROWS


def test_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", body=ROWS, n=[1, 2, 3])
    assert texts(Files(path=str(path), column="body")) == ROWS


def test_two_compressed_frames_are_one_file(tmp_path: Path) -> None:
    for ending, pack in ((".gz", gzip.compress), (".zst", zstandard.compress)):
        path = write(tmp_path / f"a.txt{ending}", pack(b"one\n") + pack(b"two\n"))
        assert texts(Files(path=str(path), documents="line")) == ["one", "two"]


def test_globs_are_sorted_and_each_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        write(tmp_path / name, name)
    patterns = [str(tmp_path / "*.txt"), str(tmp_path / "**" / "*.txt")]
    assert texts(Files(path=patterns)) == ["a.txt", "b.txt", "deep/c.txt"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\n")
    assert texts(Files(path=str(path))) == ["one\n"]
    assert texts(Files(path=str(path), documents="line")) == ["one"]


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")
    assert len(texts(Files(path=str(path)))[0]) == 200_000


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    first, copy = write(tmp_path / "a.txt", "one"), write(tmp_path / "copy" / "a.txt", "one")
    before = Files(path=str(first)).fingerprint()
    assert Files(path=str(copy)).fingerprint() == before
    write(first, "two")
    assert Files(path=str(first)).fingerprint() != before
    assert Files(path=str(copy), documents="line").fingerprint() != before


# ---- files: what is broken -----------------------------------------------------------------------------------------

BAD_ROWS = {
    "no JSON": ("a.jsonl", '{"text": "ok"}\n{"text": \n', "a.jsonl, line 2: not JSON"),
    "no mapping": ("a.jsonl", '{"text": "ok"}\n[1]\n', "line 2: expected a mapping of columns, found list"),
    "column": ("a.jsonl", '{"text": "ok"}\n{"txt": "a"}\n', "line 2: there is no column 'text' (did you mean 'txt'?)"),
    "null": ("a.jsonl", '{"text": "ok"}\n{"text": null}\n', "line 2: column 'text' must hold text, found null"),
    "number": ("a.jsonl", '{"text": "ok"}\n{"text": 3}\n', "line 2: column 'text' must hold text, found int (3)"),
    "blank": ("a.jsonl", '{"text": "ok"}\n{"text": " "}\n', "line 2: column 'text' is empty: a row without text"),
    "bytes": (
        "a.jsonl",
        b'{"text": "ok"}\n{"text": "a\xff"}\n',
        "line 2: column 'text' is not valid UTF-8 text (byte 0xff",
    ),
    "half": ("a.jsonl", '{"text": "ok"}\n{"text": "\\ud800"}\n', "line 2: column 'text' is not valid UTF-8 text (half"),
    "short": ("a.csv", "n,text\n1,ok\n2\n", "a.csv, line 3: 1 values for 2 columns"),
    "quote": ("a.csv", 'n,text\n1,ok\n2,"a"b\n', "a.csv, line 3: not a row of a table"),
    "cell": ("a.csv", "n,text\n1,ok\n2,\n", "a.csv, line 3: column 'text' is empty"),
    "csv bytes": ("a.csv", b"n,text\n1,ok\n2,\xff\n", "a.csv, line 3: column 'text' is not valid UTF-8"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, kind: str) -> None:
    name, content, message = BAD_ROWS[kind]
    good = b'{"text": "after"}\n' if name.endswith("jsonl") else b"3,after\n"
    raw = content if isinstance(content, bytes) else content.encode()
    source = Files(path=str(write(tmp_path / name, raw + good)))
    with pytest.raises(DataError) as caught:
        texts(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    found, messages = skipped(source)
    assert found == ["ok", "after"]
    assert messages == [str(caught.value)]


def test_broken_text_file_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"one\ntwo \xe9\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2: it is not valid UTF-8 text \(byte 0xe9"):
        texts(Files(path=str(path)))
    write(tmp_path / "b.txt", "fine")
    assert skipped(Files(path=str(tmp_path / "*.txt")))[0] == ["fine"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("lost", [3, 40])
def test_a_compressed_file_cut_short(tmp_path: Path, ending: str, lost: int) -> None:
    raw = "".join(json.dumps({"text": f"row {number} {number * 7919}"}) + "\n" for number in range(400)).encode()
    packed = gzip.compress(raw) if ending == ".gz" else zstandard.compress(raw)
    path = write(tmp_path / f"a.jsonl{ending}", packed[:-lost])
    with pytest.raises(DataError, match=rf"a\.jsonl\{ending}.*(damaged|not JSON)"):
        texts(Files(path=str(path)))
    write(tmp_path / "b.jsonl", '{"text": "next file"}')
    found, messages = skipped(Files(path=str(tmp_path / "*.jsonl*")))
    assert found[-1] == "next file"
    assert 1 <= len(messages) <= 2
    assert "damaged" in messages[-1]


def test_not_compressed_at_all(tmp_path: Path) -> None:
    for ending in (".gz", ".zst"):
        path = write(tmp_path / f"a.txt{ending}", "plain text")
        with pytest.raises(DataError, match=rf"a\.txt\{ending}: damaged"):
            texts(Files(path=str(path)))


def test_broken_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=["x" * 1000] * 50)
    write(path, path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet: not a whole Parquet file"):
        texts(Files(path=str(path)))
    parquet(path, text=["one", None, "", "two"])
    with pytest.raises(DataError, match=r"a\.parquet, row 2: column 'text' must hold text, found null"):
        texts(Files(path=str(path)))
    assert skipped(Files(path=str(path)))[0] == ["one", "two"]
    parquet(path, txt=["one"])
    with pytest.raises(DataError, match=r"no column 'text' \(did you mean 'txt'\?\); columns: txt"):
        texts(Files(path=str(path)))


def test_a_table_without_the_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "txt,n\none,1\n")
    with pytest.raises(DataError, match=r"line 1: there is no column 'text' \(did you mean 'txt'\?\)"):
        texts(Files(path=str(path)))


def test_no_such_file(tmp_path: Path) -> None:
    write(tmp_path / "corpus.txt", "one")
    with pytest.raises(DataError, match=r"no file matches '.*corpsu.txt' \(did you mean 'corpus.txt'\?\)"):
        texts(Files(path=str(tmp_path / "corpsu.txt")))
    with pytest.raises(DataError, match="a folder: give a glob"):
        texts(Files(path=str(tmp_path)))


def test_rows_stream(tmp_path: Path) -> None:
    """The first row is there before the (broken) end of the file is reached."""
    path = write(tmp_path / "a.jsonl", '{"text": "first"}\n' + '{"text": "more"}\n' * 100_000 + "broken")
    rows = Files(path=str(path)).rows()
    assert next(rows)["text"] == "first"


# ---- the standard library ------------------------------------------------------------------------------------------


def test_stdlib_without_tests_tables_and_packages() -> None:
    source = PythonStdlib()
    ids = [row["id"] for row in source.rows()]
    assert ids == sorted(ids)
    assert {"abc.py", "json/decoder.py"} <= set(ids)
    parts = {part for name in ids for part in name.split("/")[:-1]}
    assert not parts & {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}
    assert not any("_sysconfigdata" in name for name in ids)
    assert all(row["text"].strip() for row in source.rows())


def test_stdlib_modules_are_domains() -> None:
    urls = {row["id"]: (row["section"], row["url"]) for row in PythonStdlib().rows()}
    assert urls["abc.py"] == ("abc", "docs.python.org/abc")
    assert urls["json/decoder.py"] == ("json", "docs.python.org/json")


def test_stdlib_of_some_modules() -> None:
    source = PythonStdlib(modules=["json", "abc"])
    assert {row["section"] for row in source.rows()} == {"json", "abc"}
    assert {row["id"] for row in source.rows()} == {
        row["id"] for row in PythonStdlib().rows() if row["section"] in ("json", "abc")
    }
    assert source.fingerprint() != PythonStdlib().fingerprint()
    with pytest.raises(DataError, match=r"there is no module 'jsn' \(did you mean 'json'\?\)"):
        list(PythonStdlib(modules=["abc", "jsn"]).rows())


def test_stdlib_fingerprint_knows_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PythonStdlib().fingerprint()
    assert PythonStdlib().fingerprint() == before
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    assert PythonStdlib().fingerprint() != before


def test_stdlib_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("warmstart.data.sources.python_stdlib._folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"no \.py files"):
        PythonStdlib().fingerprint()


# ---- Hugging Face data sets ----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    import datasets

    data = datasets.Dataset.from_dict({"text": ["one", "two", "three"], "n": [1, 2, 3]})
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("streaming", [False, True])
def test_saved_data_set(saved: Path, streaming: bool) -> None:
    source = HuggingFace(path=str(saved), streaming=streaming)
    assert [(row["text"], row["id"]) for row in source.rows()][1] == ("two", "train:1")
    assert texts(HuggingFace(path=str(saved), split="test", streaming=streaming)) == ["one"]


@pytest.mark.parametrize("streaming", [False, True])
def test_folder_of_plain_files(tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "plain"
    folder.mkdir()
    write(folder / "train.jsonl", '{"text": "one"}\n{"text": null}\n{"text": "two"}\n')
    source = HuggingFace(path=str(folder), streaming=streaming)
    with pytest.raises(DataError, match=r"train, row 1: column 'text' must hold text, found null"):
        texts(source)
    assert skipped(source)[0] == ["one", "two"]


def test_data_set_errors(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'trian' \(did you mean 'train'\?\); splits: train, test"):
        texts(HuggingFace(path=str(saved), split="trian"))
    with pytest.raises(DataError, match=r"no column 'txt' \(did you mean 'text'\?\)"):
        texts(HuggingFace(path=str(saved), column="txt"))
    with pytest.raises(DataError, match="there is no folder"):
        texts(HuggingFace(path=str(tmp_path / "nothing")))
    with pytest.raises(DataError, match="'nobody/nothing' cannot be read: ") as caught:
        texts(HuggingFace(path="nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_data_set_fingerprint_follows_content(saved: Path) -> None:
    before = HuggingFace(path=str(saved)).fingerprint()
    assert HuggingFace(path=str(saved)).fingerprint() == before
    assert HuggingFace(path=str(saved), split="test").fingerprint() != before
    arrow = next((saved / "train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes().replace(b"three", b"seven"))
    assert HuggingFace(path=str(saved)).fingerprint() != before


def test_docstrings_of_the_standard_library_are_captions() -> None:
    source = PythonStdlib(documents="docstring")
    rows = list(itertools.islice(source.rows(), 300))
    assert all("\n" not in row["text"] and row["text"].strip() for row in rows)
    assert len({row["id"] for row in rows}) == 300
    assert rows == list(itertools.islice(source.rows(), 300))
    assert any(row["id"].startswith("_collections_abc.py:") for row in rows)
    assert source.fingerprint() != PythonStdlib().fingerprint()


# ---- union ---------------------------------------------------------------------------------------------------------


def test_a_union_is_one_source_whose_rows_know_their_member(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.txt", f"{name} one\n{name} two\n")
    files = [Files(path=str(tmp_path / f"{name}.txt"), documents="line") for name in ("a", "b", "a")]
    union = Union(members=files[:2], label="both")
    rows = list(union.rows())
    assert [row["text"] for row in rows] == ["a one", "a two", "b one", "b two"]
    assert {row["source"] for row in rows} == {"both"}
    assert [row["member"] for row in rows] == ["files", "files", "files-2", "files-2"]
    assert len({row["id"] for row in Union(members=files).rows()}) == 6  # ids stay unique though a file is there twice
    assert union.fingerprint() != Union(members=files[:1]).fingerprint()
    assert union.fingerprint() != Union(members=[files[1], files[0]]).fingerprint()
    write(tmp_path / "b.txt", "b one\nb three\n")
    assert list(union.rows())[3]["text"] == "b three"
