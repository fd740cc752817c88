"""What a study shows while it runs: a line for every run on a terminal, a line for every evaluation elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from warmstart.studies.owners import Line
from warmstart.studies.tasks import Task


class Shown:
    """Shows the tasks of a study; a context in which the terminal's lines are kept up to date by `refresh`."""

    def __init__(self, tasks: Sequence[Task], console: Console) -> None:
        self.tasks, self.console = tasks, console
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Shown:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Draws the lines of the running tasks again."""
        if self._live is not None:
            self._live.update(status(self.tasks), refresh=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def told(self, task: Task, line: Line) -> None:
        """What a run has said of itself."""
        kind, values = line["kind"], line
        if kind == "taken":
            task.shown["node"] = values["host"]
        elif kind == "step":
            task.shown |= {name: values[name] for name in ("fraction", "loss", "tokens_per_second")}
        elif kind == "stage":
            task.shown |= {"stage": values["name"], "fraction": 0.0}
        elif kind == "evaluation":
            if self._live is None:
                name, value = next(iter(values["values"].items()), ("", 0.0))
                self.say(f"{task.title}: step {values['step']}  {name} {value:.4f}")
        elif kind == "waits":
            self.say(f"{task.title}: {values['text']}")

    def ended(self, task: Task) -> None:
        """A run is over."""
        if self._live is None:
            self.say(f"{task.title}: {task.state}")


def status(tasks: Sequence[Task]) -> Table:
    """A line for every run that goes on; where they are, if they are in more than one place."""
    table = Table(box=None, pad_edge=False)
    running = [task for task in tasks if task.state == "running"]
    places = len({task.shown.get("node") for task in running} - {None}) > 1
    for column in ("run", "seed", "stage", "done", "loss", "tokens/s", *(["node"] if places else [])):
        table.add_column(column, justify="left" if column in ("run", "stage", "node") else "right")
    for task in running:
        shown = task.shown
        begun = "node" in shown
        table.add_row(
            Text(task.name),
            str(task.seed),
            Text(str(shown.get("stage", "starts" if begun else "queued"))),
            f"{100 * shown.get('fraction', 0):.0f} %",
            f"{shown['loss']:.3f}" if "loss" in shown else "",
            f"{shown['tokens_per_second']:,.0f}" if "tokens_per_second" in shown else "",
            *([str(shown.get("node", ""))] if places else []),
        )
    done, stopped = (sum(task.state == state for task in tasks) for state in ("finished", "stopped"))
    table.caption = f"{done} of {len(tasks)} runs finished" + (f", {stopped} stopped" if stopped else "")
    return table
