"""Saving while training goes on: what stops the training is a copy in memory; a thread writes it to the disk.

One state at a time is on its way; a save that comes too early waits for the one before. What the disk said comes to
light at the next step, not in the thread. The trade-off: the host needs memory for one more copy of weights and
moments (`train.save_in_background: false` does without, and training waits for the disk).

Nothing about resuming changes: a state is there once it is whole (`warmstart/train/checkpoint.py`), and a run that dies
while one is written goes on from the one before.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from warmstart.train.checkpoint import Tensors, save_state
from warmstart.train.tensors import own_copy


class Saving:
    """Writes the states of one stage.

    Args:
        folder: where states go.
        keep: how many are kept.
        background: write them in a thread.
    """

    def __init__(self, folder: Path, keep: int, *, background: bool) -> None:
        self._folder, self._keep, self._background = folder, keep, background
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(
        self,
        step: int,
        tensors: dict[str, Tensors],
        values: dict[str, Any],
        spare: int | None = None,
        copies: Collection[str] = (),
    ) -> None:
        """Saves a state; afterwards tensors and values may change.

        Args:
            spare: the step of an older state that is kept beyond their number.
            copies: groups of tensors that nobody else has, so that they need not be copied.

        Raises:
            UserError: the disk is full or cannot be written; this state or, in the background, the one before.
        """
        if not self._background:
            save_state(self._folder, step, tensors, values, keep=self._keep, spare=spare)
            return
        self.wait()
        kept = {
            group: members if group in copies else {name: own_copy(t) for name, t in members.items()}
            for group, members in tensors.items()
        }
        self._thread = threading.Thread(
            target=self._write, args=(step, kept, copy.deepcopy(values), spare), name=f"save-{step}"
        )
        self._thread.start()

    def wait(self) -> None:
        """Until everything is on the disk.

        Raises:
            UserError: it is full or cannot be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_what_went_wrong()

    @property
    def busy(self) -> bool:
        """Whether a state is being written."""
        return self._thread is not None and self._thread.is_alive()

    def raise_what_went_wrong(self) -> None:
        """What the disk said in the meantime, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nothing is left half-way; an error on its way out of the training goes before one of the disk."""
        if kind is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()

    def _write(self, step: int, tensors: dict[str, Tensors], values: dict[str, Any], spare: int | None) -> None:
        try:
            save_state(self._folder, step, tensors, values, keep=self._keep, spare=spare)
        except BaseException as error:  # it belongs to the training, which asks for it
            self._error = error
