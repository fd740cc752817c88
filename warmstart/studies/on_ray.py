"""Workers that are tasks of a Ray cluster.

Ray finds a node with room, ships the order and says when a worker or a node is lost. What it is not asked to do is to
try again: whether a run goes on, and from where, the study decides (`schedule.py`), for all kinds of workers alike. A
worker serves one run and ends (`max_calls`): what a library keeps in a process never reaches the next run, and peak
memory is a run's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from warmstart.data.engine import connected
from warmstart.studies.processes import wants_gpu
from warmstart.studies.tasks import Key, Task
from warmstart.studies.worker import Order, Word, work


class OnRay:
    """Tasks of a Ray cluster: the one that RAY_ADDRESS names or that this machine belongs to, else one of this machine.

    Args:
        jobs: runs at a time; default: as many as there is room for.
        cpus: cores (and threads) of each run; default: 1, or with accelerators a node's cores divided by them.
        gpus: the share of an accelerator that each run takes; default: 1 where the runs want one and there is one.
        say: told where no node has the room that a run takes.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        jobs: int | None = None,
        cpus: int | None = None,
        gpus: float | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._ray = connected()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
        if gpus is None:
            gpus = 1 if with_gpu and wants_gpu(tasks) else 0
        if cpus is None:
            cpus = min((int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu), default=1) if gpus >= 1 else 1
            cpus = max(1, cpus)
        self.room, self.threads = jobs or len(tasks), cpus
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            say(f"no node of the cluster has {cpus} CPU and {gpus:g} GPU, which a run takes; waiting for one that has")
        self._running: dict[Any, Key] = {}
        self._work = self._ray.remote(max_calls=1, max_retries=0, num_cpus=cpus, num_gpus=gpus)(work)

    def start(self, key: Key, order: Order) -> None:
        """Hands a run to the cluster."""
        self._running[self._work.options(name=order.title).remote(order)] = key

    def ended(self, seconds: float) -> list[tuple[Key, Word]]:
        """The runs that are over; waits for the first of them, at most so long."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not done:
            done, _ = self._ray.wait(list(self._running), timeout=seconds)
        return [(self._running.pop(ref), self._word(ref)) for ref in done]

    def interrupt(self, at_once: bool = False) -> None:
        """Asks the runs to save and stop (Ray raises SIGINT in them, and drops those that wait); or ends them."""
        for ref in self._running:
            self._ray.cancel(ref, force=at_once)

    def close(self) -> None:
        """No run goes on after this."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)

    def _word(self, ref: Any) -> Word:
        errors = self._ray.exceptions
        try:
            word = self._ray.get(ref)
            assert isinstance(word, Word)
            return word
        except errors.TaskCancelledError:
            return Word("interrupted")
        except errors.RayTaskError as error:  # `work` raises nothing: it could not even be begun
            return Word("failed", f"a node cannot begin it; is warmstart installed there? ({_last(error)})")
        except errors.RayError as error:
            return Word("lost", f"its worker was lost ({_first(error)})")


def _first(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
    return text.rstrip(".") or type(error).__name__


def _last(error: Exception) -> str:
    return str(error).strip().rsplit("\n", 1)[-1]
