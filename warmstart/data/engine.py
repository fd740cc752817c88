"""Where row steps run: in this process, in several (`datasets`), or on a Ray cluster. The rows are the same, bit for
bit.

An engine maps a function over the batches of a file of rows and gives the results in the order of the file. The
function takes columns and gives bytes (an Arrow stream, see `warmstart/data/rows.py`), because bytes travel between
processes and machines unchanged.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from warmstart import errors
from warmstart.data.rows import read_row_group, read_rows, row_groups, to_columns
from warmstart.data.steps import Columns
from warmstart.errors import UserError

BATCH_ROWS = 256
Function = Callable[[Columns], bytes]


@dataclass(frozen=True)
class Engine:
    """How row steps are carried out.

    Attributes:
        kind: `local` (this process, or `workers` processes of the library `datasets`) or `ray`.
        workers: processes of the local engine. Ray takes what its cluster has.
        batch: rows per call of a step; changes speed and memory, never the rows.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    batch: int = BATCH_ROWS

    def map(self, path: Path, function: Function) -> Iterator[bytes]:
        """What `function` makes of each batch of the rows in `path`, in order.

        Raises:
            UserError: Ray is asked for and not installed; whatever `function` raises for the user.
        """
        if self.kind == "ray":
            return _on_ray(path, function, self.batch)
        if self.workers > 1:
            return _in_processes(path, function, self.batch, self.workers)
        return map(function, read_rows(path, self.batch))


def _in_processes(path: Path, function: Function, batch: int, workers: int) -> Iterator[bytes]:
    import datasets

    with tempfile.TemporaryDirectory(prefix="warmstart-rows-") as scratch:
        rows = datasets.Dataset.from_parquet(str(path), cache_dir=scratch)
        if not len(rows):
            return
        features = datasets.Features({"answer": datasets.Value("large_binary"), "error": datasets.Value("string")})
        try:
            done = rows.with_format("arrow").map(
                partial(_answer_of_table, function),
                batched=True,
                batch_size=batch,
                num_proc=min(workers, len(rows)),
                remove_columns=rows.column_names,
                features=features,
                cache_file_name=str(Path(scratch) / "answers.arrow"),
                new_fingerprint="answers",
                desc="row steps",
            )
        except RuntimeError as error:
            if "abruptly died" not in str(error):  # the library's words for a process that is gone
                raise
            raise UserError(
                "a process of the row steps was killed (is there enough memory for so many --workers?); nothing of "
                "this pass was kept: start the same line again"
            ) from error
        for row in done.with_format("arrow").iter(batch_size=1):
            yield _checked(row["answer"][0].as_py(), row["error"][0].as_py())


def _on_ray(path: Path, function: Function, batch: int) -> Iterator[bytes]:
    ray = connected()
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    # One kind of task, which reads its own piece of the file: Ray's own reader would start workers for two more.
    pieces = [{"path": str(path.resolve()), "group": group} for group in range(row_groups(path))]
    if not pieces:
        return
    answers = ray.data.from_items(pieces, override_num_blocks=len(pieces)).map_batches(
        partial(_answers_of_piece, function, batch), batch_size=1, batch_format="pyarrow"
    )
    for row in answers.iter_rows():
        yield _checked(row["answer"], row["error"])


def connected() -> Any:
    """The module `ray`, connected: to the cluster that RAY_ADDRESS names, that this machine belongs to, or to one of
    this machine alone. Ray's own lines would bury ours, so it is asked to be silent.

    Raises:
        UserError: Ray is not installed, or there is no cluster at RAY_ADDRESS.
    """
    if "ray" not in sys.modules:  # Ray reads it when it is imported; what is told of lost workers we say ourselves
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'warmstart[ray]'") from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise UserError(f"--engine ray: no Ray cluster answers ({str(error).splitlines()[0]})") from None
    return ray


def _answer_of_table(function: Function, table: pa.Table) -> pa.Table:
    return _answer(function, to_columns(table))


def _answers_of_piece(function: Function, batch: int, piece: pa.Table) -> Iterator[pa.Table]:
    for row in piece.to_pylist():
        for columns in read_row_group(Path(row["path"]), row["group"], batch):
            yield _answer(function, columns)


def _answer(function: Function, columns: Columns) -> pa.Table:
    """One row: what the function made of a batch, or the user's error, out of reach of a library's own wrapping."""
    try:
        answer, error = function(columns), ""
    except UserError as found:
        answer, error = b"", f"{type(found).__name__}:{found}"
    return pa.table({"answer": pa.array([answer], pa.large_binary()), "error": pa.array([error], pa.string())})


def _checked(answer: bytes, error: str) -> bytes:
    if error:
        kind, _, text = error.partition(":")
        raise getattr(errors, kind, UserError)(text)
    return answer
