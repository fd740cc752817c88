"""Workers that are processes of this machine.

On a CPU the runs go on side by side, one core each: two small models on one core each finish sooner than one model on
two cores. On accelerators each run has one of them. Seconds in the result are those of a machine that does several
things at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from warmstart.studies.tasks import Key, Task
from warmstart.studies.worker import Order, Word, work


class Processes:
    """Processes of this machine.

    Args:
        jobs: runs at a time; default: one per core on a CPU, one per accelerator.
        cpus: threads of each run; default: the cores, divided.
        gpus: the share of an accelerator that each run takes; default: a whole one where the runs want one.
    """

    def __init__(
        self, tasks: Sequence[Task], jobs: int | None = None, cpus: int | None = None, gpus: float | None = None
    ) -> None:
        cores = os.cpu_count() or 1
        self._devices = devices() if gpus != 0 and wants_gpu(tasks) else []
        self._no_devices = gpus == 0
        if jobs is None:
            jobs = int(len(self._devices) / (gpus or 1)) if self._devices else cores // (cpus or 1)
            jobs = max(1, min(jobs, len(tasks)))
        self.room = jobs
        self.threads = cpus or max(1, cores // jobs)
        self._running: dict[Key, tuple[BaseProcess, Connection, str | None]] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["warmstart.run_recipe"])

    def start(self, key: Key, order: Order) -> None:
        """Begins a run."""
        near, far = self._context.Pipe(duplex=False)
        device = self._device()
        process = self._context.Process(target=_say, args=(order, far, device))
        process.start()
        far.close()
        self._running[key] = process, near, device

    def ended(self, seconds: float) -> list[tuple[Key, Word]]:
        """The runs that are over; waits for the first of them, at most so long."""
        sentinels = {process.sentinel: key for key, (process, _, _) in self._running.items()}
        found = []
        for sentinel in wait(list(sentinels), timeout=seconds):
            key = sentinels[sentinel]  # type: ignore[index]
            process, near, _ = self._running.pop(key)
            process.join()
            word = Word("lost", f"its process ended with exit code {process.exitcode} (killed? out of memory?)")
            try:
                if near.poll():
                    word = near.recv()
            except (EOFError, OSError):
                pass
            near.close()
            found.append((key, word))
        return found

    def interrupt(self, at_once: bool = False) -> None:
        """Asks the runs to save and stop; a second time, at once."""
        for process, _, _ in self._running.values():
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL if at_once else signal.SIGINT)

    def close(self) -> None:
        """No run goes on after this."""
        for process, _, _ in self._running.values():
            process.terminate()

    def _device(self) -> str | None:
        """The accelerator with the fewest runs; None: what there is."""
        if not self._devices:
            return "" if self._no_devices else None
        taken = [device for _, _, device in self._running.values()]
        return min(self._devices, key=taken.count)


def _say(order: Order, far: Connection, device: str | None) -> None:
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # before CUDA is touched
    far.send(work(order))
    far.close()


def wants_gpu(tasks: Sequence[Task]) -> bool:
    """Whether some run would use an accelerator."""
    return any(stage.train.device != "cpu" for task in tasks for stage in task.recipe.stages)


def devices() -> list[str]:
    """This machine's accelerators by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [name.strip() for name in given.split(",")] if given else [str(number) for number in range(count)]
    return names[:count]
