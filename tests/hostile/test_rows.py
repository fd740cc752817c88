"""Rows that somebody else wrote: decompression bombs, strange JSON, broken Parquet, data sets that hold programs."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from canary import EVIL_TEXT, EVIL_VALUE, changed_bytes, fuzz, little_memory, nothing_run, refused_or_fine
from hypothesis import strategies as st

from warmstart.data.cache import digest
from warmstart.data.export import export
from warmstart.data.sources import opened
from warmstart.data.sources.files import Files
from warmstart.data.sources.hugging_face import HuggingFace
from warmstart.errors import DataError
from warmstart.forecast.read_runs import read_curve
from warmstart.recipe_data import Data
from warmstart.train.metrics import read_metrics


def skipped(source: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The usable rows, and the messages of those that are not."""
    messages: list[str] = []
    with nothing_run():
        found = list(source.rows(lambda error: messages.append(str(error))))
    return found, messages


def zeros(ending: str, size: int) -> bytes:
    """So many bytes of one letter, compressed, without holding them."""
    piece = b"x" * 2**20
    if ending == ".gz":
        packer = zlib.compressobj(9, wbits=31)
        return b"".join([packer.compress(piece) for _ in range(size >> 20)]) + packer.flush()
    target = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(target, closefd=False) as writer:
        for _ in range(size >> 20):
            writer.write(piece)
    return target.getvalue()


# ---- bombs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize(
    ("form", "documents"), [("jsonl", "file"), ("csv", "file"), ("txt", "file"), ("txt", "line"), ("txt", "paragraph")]
)
def test_a_line_without_end_costs_no_memory(ending: str, form: str, documents: Any, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}{ending}"
    path.write_bytes(zeros(ending, 2**28))
    source = Files(path=str(path), documents=documents)
    with little_memory(3 * opened.LONGEST + 2**27):
        rows, messages = skipped(source)
    assert rows == []
    assert len(messages) == 1
    assert "longer than 64 MiB" in messages[0]
    assert str(path) in messages[0]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_unfolds_without_end_is_refused(ending: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(opened, "FREE", 2**20)
    lines = b'{"text": "a"}\n' * 2**14
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}[ending](lines * 40)
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(packed)
    assert len(packed) * opened.RATIO < len(lines) * 40
    rows, messages = skipped(Files(path=str(path)))
    assert 0 < len(rows) < 2**14 * 40
    assert messages == [
        f"{path}: unfolds to more than {max(1, len(packed) * 200 >> 20)} MiB, which is more than 200 times its size; "
        "if that is right, unpack it first"
    ]


def test_text_that_is_just_well_compressed_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(opened, "FREE", 2**16)
    lines = "".join(json.dumps({"text": f"line {n} {n * n} {digest(n)}"}) + "\n" for n in range(5_000)).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    rows, messages = skipped(Files(path=str(tmp_path / "*.gz")))
    assert (len(rows), messages) == (5_000, [])


def test_a_paragraph_without_end(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmstart.data.sources.files.LONGEST", 1000)
    (tmp_path / "a.txt").write_text("first\n\n" + "word\n" * 1000)
    rows, messages = skipped(Files(path=str(tmp_path / "a.txt"), documents="paragraph"))
    assert [row["text"] for row in rows] == ["first"]
    assert "a.txt, line 3: a paragraph of more than" in messages[0]


def test_a_quote_that_is_never_closed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("warmstart.data.sources.files.LONGEST", 1000)
    (tmp_path / "a.csv").write_text('text\nok\n"' + "never closed\n" * 1000)
    with little_memory(2**27):
        rows, messages = skipped(Files(path=str(tmp_path / "a.csv")))
    assert rows[0]["text"] == "ok"
    assert "not a row of a table" in messages[0]


# ---- JSON Lines ----------------------------------------------------------------------------------------------------

ROWS = {
    "a whole number of 5,000 digits": ('{"text": "a", "n": ' + "9" * 5_000 + "}", "a whole number of thousands of"),
    "nested without end": ('{"text": "a", "n": ' + "[" * 100_000 + "}", "nested too deeply"),
    "half a character": ('{"text": "\\ud800"}', "not valid UTF-8 text (half a character"),
    "half a character in a further column": ('{"text": "a", "n": "\\udfff"}', "column 'n' is not valid UTF-8 text ("),
    "half a character deep inside": ('{"text": "a", "n": {"x": ["\\udfff"]}}', "column 'n' holds text that is not"),
    "a byte that is none": (b'{"text": "a", "n": "\xff"}', "column 'n' is not valid UTF-8 text (byte 0xff"),
    "a column with an escape": ('{"\\u001b[31m": "a"}', "there is no column 'text'; columns: ␛[31m"),
    "a very long column": (json.dumps({"x" * 10**6: 1}), "there is no column 'text'"),
    "a list": ("[1]", "expected a mapping of columns, found list"),
    "NaN alone": ("NaN", "expected a mapping of columns, found null"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_a_strange_row_costs_that_row(case: str, tmp_path: Path) -> None:
    line, fragment = ROWS[case]
    path = tmp_path / "a.jsonl"
    good = b'{"text": "good", "n": 1}\n'
    path.write_bytes(good + (line if isinstance(line, bytes) else line.encode()) + b"\n" + good)
    rows, messages = skipped(Files(path=str(path), columns=["n"]))
    assert [row["text"] for row in rows] == ["good", "good"]
    assert len(messages) == 1
    assert f"{path}, line 2: " in messages[0]
    assert fragment in messages[0]
    assert len(messages[0]) < 3_000


def test_not_a_number_is_a_missing_value(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "n": NaN}\n{"text": "b", "n": [-Infinity, 1]}\n')
    rows, messages = skipped(Files(path=str(path), columns=["n"]))
    assert [row["n"] for row in rows] == [None, [None, 1]]
    assert messages == []


def test_large_numbers_and_names_of_files_survive_to_the_end(tmp_path: Path) -> None:
    """What comes in can be written out again: huge numbers, deep values, names that are no UTF-8."""
    folder = Path(str(tmp_path) + "/\udcff\x1b]31m")
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"text": "a", "n": 10**400, "m": [[[{"x": None}]]]}) + "\n")
    facts = export(Data(source=Files(path=f"{tmp_path}/*/*.jsonl", columns=["n", "m"]), curate=[]), tmp_path / "out")
    assert facts["rows"]["rows_read"] == 1
    (file,) = (tmp_path / "out").glob("*.zst")
    row = json.loads(zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read())
    assert (row["n"], row["m"]) == (10**400, [[[{"x": None}]]])
    assert "\\xff" in row["id"]


@pytest.mark.parametrize("header", ['"a"b,text', '"unclosed', "\0", "", "text,text", "\xff"])
def test_a_strange_header_is_one_line(header: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(header.encode("latin-1") + b"\n1,2\n")
    message = refused_or_fine(lambda: list(Files(path=str(path)).rows()))
    assert header == "text,text" or (message is not None and str(path) in message)


# ---- Parquet -------------------------------------------------------------------------------------------------------


def test_dates_that_python_has_no_value_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    far = pyarrow.array([10**12], pyarrow.timestamp("s"))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "n": far}), path)
    rows, messages = skipped(Files(path=str(path), columns=["n"]))
    assert rows == []
    assert "not a whole Parquet file" in messages[0]


# ---- data sets -------------------------------------------------------------------------------------------------------


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("echo opened > opened",)


@pytest.mark.parametrize(
    "name", ["data.pkl", "data.pt", "loader.py", "data.tar", "data.h5", "data.eval", "data.xml", "data.lance"]
)
def test_a_folder_of_anything_but_rows_is_refused(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "loader"
    folder.mkdir()
    (folder / name).write_bytes(pickle.dumps(Evil()))
    (folder / "loader.py").write_text("import os\nos.system('echo opened > opened')\n")
    for streaming in (False, True):
        with nothing_run(), pytest.raises(DataError) as caught:
            list(HuggingFace(path=str(folder), streaming=streaming).rows())
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("opened"))


def test_formats_that_the_library_reads_and_we_do_not(tmp_path: Path, monkeypatch: Any) -> None:
    """Tar files may hold pickled tensors, other formats links to other files: none is opened."""
    import tarfile

    monkeypatch.chdir(tmp_path)
    (tmp_path / "conll").mkdir()
    (tmp_path / "conll" / "data.conll").write_text("a B\nc D\n\n")
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar" / "data.tar", "w") as archive:
        for name, content in (("0.txt", b"a text"), ("0.pth", pickle.dumps(Evil()))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for name, column, kind in (("conll", "tokens", "conll"), ("tar", "txt", "webdataset")):
        for streaming in (False, True):
            with nothing_run(), pytest.raises(DataError, match=f"read by '{kind}' of datasets, which is not allowed"):
                list(HuggingFace(path=str(tmp_path / name), column=column, streaming=streaming).rows())
    assert not list(tmp_path.rglob("opened"))


def test_pickles_under_the_name_of_a_builder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(Evil()))
    for path in ("pandas", "webdataset", "hdf5", "eval"):
        with nothing_run(), pytest.raises(DataError, match="hugging-face"):
            list(HuggingFace(path=path).rows())
    assert not (tmp_path / "opened").exists()


def test_pickled_arrays_are_not_opened(tmp_path: Path, monkeypatch: Any) -> None:
    import numpy as np

    from warmstart.objectives.caption_teachers import given_vectors
    from warmstart.objectives.clustered_token_detection import given_clusters

    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "c.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(127)
        + b"\n"
    )
    for name in "abc":
        for call in (
            lambda file: given_vectors(file, 3),
            lambda file: given_clusters(file, np.ones(3, dtype=bool)),
        ):
            with nothing_run(), little_memory(), pytest.raises(DataError, match=r"cannot be read as a \.npy file"):
                call(tmp_path / f"{name}.npy")
    assert not (tmp_path / "opened").exists()


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_of_strange_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = [{"step": n, "tokens": 100 * n, "validation/loss": 5 - n / 10} for n in range(1, 9)]
    strange = ["[1]", "3", "null", "{", "[" * 10**5, '{"n": ' + "9" * 5_000 + "}", '{"validation/loss": "x"}',
               '{"validation/loss": true}', '{"validation/loss": NaN}',
               '{"validation/loss": 1' + "0" * 400 + "}"]  # fmt: skip
    path.write_text("\n".join(strange + [json.dumps(line) for line in good]) + "\n")
    assert len(read_metrics(path)) == len(good) + 4
    assert read_curve([path]).curve.levels == 8


# ---- fuzzers -------------------------------------------------------------------------------------------------------

PLAIN = [
    {"text": "eins", "n": 1, "u": "a"},
    {"text": "zwei\nZeilen", "n": None, "u": "b"},
    {"text": "drei, Ä", "n": 2, "u": ""},
]


def packed() -> dict[str, bytes]:
    """A small whole file of every form."""
    lines = "".join(json.dumps(row) + "\n" for row in PLAIN).encode()
    table = "n,text,u\n" + "".join(f'{row["n"]},"{row["text"]}",{row["u"]}\n' for row in PLAIN)
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PLAIN), target)
    return {
        "a.jsonl": lines, "a.csv": table.encode(), "a.tsv": table.replace(",", "\t").encode(), "a.txt": b"one\n\ntwo\n",
        "a.jsonl.gz": gzip.compress(lines), "a.csv.zst": zstandard.compress(table.encode()),
        "a.txt.gz": gzip.compress(b"a\n\nb"),
        "a.parquet": target.getvalue(),
    }  # fmt: skip


def read_in_every_way(path: Path) -> None:
    for documents in ("file", "line", "paragraph"):
        source = Files(path=str(path), columns=["n", "u"], documents=documents)
        refused_or_fine(lambda source=source: list(source.rows()))
        messages: list[DataError] = []

        def read(source: Files = source, messages: list[DataError] = messages) -> Iterator[Any]:
            return iter([json.dumps(row, default=str).encode() for row in source.rows(messages.append)])

        refused_or_fine(read)
        if path.suffixes[-1:] not in ([".txt"],):
            break


@pytest.mark.parametrize("name", sorted(packed()))
def test_fuzz_bytes_of_rows(name: str, tmp_path: Path) -> None:
    path, original = tmp_path / name, packed()[name]

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with little_memory(2**31):
            read_in_every_way(path)

    fuzz(check, changed_bytes(original) | st.binary(max_size=100))


def test_fuzz_values_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = st.dictionaries(st.sampled_from(["text", "n", "u"]) | EVIL_TEXT, EVIL_VALUE, max_size=4)

    def check(rows: list[Any]) -> None:
        path.write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8", errors="replace")
        read_in_every_way(path)
        out = tmp_path / "out" / str(time.monotonic_ns())
        data = Data(source=Files(path=str(path), columns=["n", "u"]), curate=[], on_error="skip")
        refused_or_fine(lambda: export(data, out))

    fuzz(check, st.lists(row | EVIL_VALUE, min_size=1, max_size=4), examples=25)


def test_fuzz_paths_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text")
    fuzz(
        lambda found: refused_or_fine(lambda: list(Files(path=found).rows())) and None,
        EVIL_TEXT | EVIL_TEXT.map(lambda name: f"{tmp_path}/{name}"),
        examples=80,
    )


def test_fuzz_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = st.dictionaries(st.sampled_from(["step", "tokens", "flops", "validation/loss"]), EVIL_VALUE, max_size=4)

    def check(rows: list[Any]) -> None:
        path.write_text("\n".join(json.dumps(one) for one in rows), encoding="utf-8", errors="replace")
        refused_or_fine(lambda: read_curve([path]))
        refused_or_fine(lambda: read_curve([path], axis="step", kind="share"))

    fuzz(check, st.lists(line | EVIL_VALUE, max_size=5))


def test_fuzz_data_sets(tmp_path: Path) -> None:
    """A data set that `save_to_disk` wrote, with its files of JSON and Arrow changed."""
    import datasets

    datasets.disable_progress_bars()
    folder = tmp_path / "saved"
    datasets.Dataset.from_list(PLAIN).save_to_disk(folder)
    originals = {path: path.read_bytes() for path in sorted(folder.iterdir())}

    def check(found: tuple[Path, bytes]) -> None:
        for path, content in originals.items():
            path.write_bytes(content)
        found[0].write_bytes(found[1])
        with little_memory(2**31):
            refused_or_fine(lambda: list(HuggingFace(path=str(folder), columns=["n", "u"]).rows()))

    choice = st.sampled_from(sorted(originals))
    fuzz(check, choice.flatmap(lambda path: st.tuples(st.just(path), changed_bytes(originals[path]))), examples=25)
