"""A Hugging Face data set: a folder saved by `save_to_disk`, a folder of plain data files, or a hub id.

Read by the `datasets` library, which runs no code of the data set's own. Of the many formats that it knows only those
of plain rows are read (`READ`): others follow links to other files, or hold pickled tensors. With `streaming: true`
nothing is written to disk and rows are parsed while they are read. A hub id without `revision` means whatever its
main branch holds today: give a commit where results must be repeatable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from warmstart.data.cache import digest, file_digest
from warmstart.data.media import with_references
from warmstart.data.sources import OnBadRow, Row, Source, check_value, raise_error, text_of
from warmstart.errors import DataError, nearest, of_a_library
from warmstart.places import expanded, is_file, is_folder

READ = ("json", "csv", "parquet", "arrow", "text", "imagefolder", "audiofolder")
"""The builders of `datasets` whose files are read."""


class HuggingFace(Source):
    """Rows of one split of a data set; `id` is the row's number in the split."""

    type: Literal["hugging-face"] = "hugging-face"
    path: str = Field(description="A folder, or a hub id such as `owner/name`.")
    subset: str | None = Field(None, description="The data set's configuration, where it has several.")
    split: str = Field("train", description="The split, also a slice such as `train[:10%]`.")
    column: str = Field("text", description="The column that holds the text.")
    columns: list[str] = Field(default_factory=list, description="Further columns to keep, e.g. `url`.")
    revision: str | None = Field(None, description="A commit, tag or branch of a hub data set.")
    streaming: bool = Field(False, description="Read rows without storing the data set first.")

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        data = self._load()
        names = getattr(data, "column_names", None)
        if names is not None:
            wanted = [self.column, *self.columns]
            for name in wanted:
                if name not in names:
                    raise DataError(
                        f"hugging-face '{self.path}': there is no column '{name}'{nearest(name, names)}; "
                        f"columns: {', '.join(names[:8])}"
                    )
            data = data.select_columns(wanted)
        beside = self._folder() or Path()
        for number, row in enumerate(self._iterate(_undecoded(data))):
            where = f"hugging-face '{self.path}', {self.split}, row {number}"
            try:
                text = text_of(row, self.column, where)
                further = with_references({name: row.get(name) for name in self.columns}, beside, where)
                for name in self.columns:
                    check_value(further[name], where, name)
            except DataError as error:
                on_bad_row(error)
                continue
            yield {"source": self.label or self.type, "id": f"{self.split}:{number}", **further, "text": text}

    def fingerprint(self) -> str:
        settings = (self.subset, self.split, self.column, self.columns, self.revision)
        folder = self._folder()
        if folder is not None:
            content = [(p.relative_to(folder).as_posix(), file_digest(p)) for p in _files(folder)]
            if not content:
                raise DataError(f"hugging-face: the folder '{self.path}' is empty")
            return digest("hugging-face", settings, content)
        import datasets

        builder = self._ask(lambda: datasets.load_dataset_builder(self.path, self.subset, revision=self.revision))
        return digest("hugging-face", self.path, settings, str(builder.hash), str(builder.config.version))

    def _load(self) -> Any:
        """The split, as a `Dataset` or an `IterableDataset`."""
        import datasets

        folder = self._folder()
        if folder is not None and any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            saved = self._ask(lambda: datasets.load_from_disk(str(folder)))
            if isinstance(saved, datasets.DatasetDict):
                if self.split not in saved:
                    raise DataError(
                        f"hugging-face '{self.path}': there is no split '{self.split}'"
                        f"{nearest(self.split, saved)}; splits: {', '.join(saved)}"
                    )
                saved = saved[self.split]
            return saved.to_iterable_dataset() if self.streaming else saved
        path = self.path if folder is None else str(folder)
        self._ask(lambda: self._check_format(datasets.load_dataset_builder(path, self.subset, revision=self.revision)))
        return self._ask(
            lambda: datasets.load_dataset(
                path, self.subset, split=self.split, revision=self.revision, streaming=self.streaming
            )
        )

    def _check_format(self, builder: Any) -> None:
        """Makes sure that the files are of a format that holds plain rows.

        Raises:
            DataError: they are not.
        """
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in READ:
            raise DataError(
                f"hugging-face '{self.path}': its files are read by '{kind}' of datasets, which is not allowed; "
                f"allowed: {', '.join(READ)}"
            )

    def _folder(self) -> Path | None:
        """The local folder, or None for a hub id.

        Raises:
            DataError: the path looks like a folder, and there is none.
        """
        folder = expanded(self.path)
        if is_folder(folder):
            return folder
        if self.path.startswith(("/", ".", "~")) or is_file(folder):
            raise DataError(f"hugging-face: there is no folder '{self.path}' (for single files use the source 'files')")
        return None

    def _iterate(self, data: Iterable[Row]) -> Iterator[Row]:
        iterator = iter(data)
        while True:
            try:
                row = self._ask(lambda: next(iterator, None))
            except RuntimeError as error:  # a generator that was torn by an error of the library
                raise DataError(f"hugging-face '{self.path}': {_first_line(error)}") from error
            if row is None:
                return
            yield row

    def _ask(self, call: Any) -> Any:
        """Calls the library; each of its many kinds of error becomes one line."""
        try:
            return call()
        except DataError:
            raise
        except BaseException as error:
            if not of_a_library(error):
                raise
            raise DataError(f"hugging-face '{self.path}' cannot be read: {_first_line(error)}") from error


def _undecoded(data: Any) -> Any:
    """The data set with its pictures and sounds as they are stored: bytes or a path."""
    import datasets

    for name, feature in (data.features or {}).items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            data = data.cast_column(name, type(feature)(decode=False))
    return data


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
