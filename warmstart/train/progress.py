"""What a run tells while it works: events, and the reporters that show them.

The loop never prints. It sends events (`stage`, `note`, `step`, `evaluation`, `done`) to a reporter: on a terminal
that is a live progress bar with speed and time left, in a log file a line per evaluation, in a study a queue to the
process that draws one table for all arms.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from warmstart.terminal import Terminal


class Reporter:
    """Takes events and shows nothing."""

    def event(self, kind: str, **values: Any) -> None:
        """One event.

        Args:
            kind: `stage` (name), `note` (text), `step` (fraction of the budget, loss, tokens_per_second),
                `evaluation` (step, values) or `done` (name).
        """

    def close(self) -> None:
        """The run is over or was interrupted."""


class ConsoleReporter(Reporter):
    """A live bar on a terminal; plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Terminal()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def event(self, kind: str, **values: Any) -> None:
        if kind == "stage":
            self.close()
            self.console.print(values["name"], style="bold", highlight=False, markup=False)
            if self.console.is_terminal:
                self._start_bar()
        elif kind == "note":
            self.console.print(f"  {values['text']}", highlight=False, markup=False)
        elif kind == "step" and self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                completed=values["fraction"],
                loss=f"{values['loss']:.3f}",
                speed=f"{values['tokens_per_second']:,.0f} tokens/s",
            )
        elif kind == "evaluation":
            shown = "  ".join(f"{name} {value:.4f}" for name, value in values["values"].items())
            self.console.print(f"  step {values['step']:>6}  {shown}", highlight=False, markup=False)
        elif kind == "done":
            self.close()

    def _start_bar(self) -> None:
        self._bar = Progress(
            TextColumn("  training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]}  {task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=1.0, loss="-", speed="-")
        self._bar.start()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
