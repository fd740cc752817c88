"""Where a result comes from: versions, commit, machine, and which weights came from which."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from warmstart.disk import write_whole
from warmstart.errors import StateError
from warmstart.finished import read_sealed, sealed


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("warmstart", "torch", "transformers", "tokenizers", "datasets", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def commit() -> str | None:
    """The git commit of the code that runs, with `+changes` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        top = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no", "--", str(here)],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return top.stdout.strip()[:12] + ("+changes" if changed.stdout.strip() else "")


def machine() -> dict[str, Any]:
    """The machine in words: processor, cores, accelerator, memory; no host name."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass
class Lineage:
    """Which weights came from which, by hash.

    A node is a set of weights (`id` is the sha256 of all tensors); an edge is what made it from another: `random`
    initialisation, `load`, a surgery, or training.
    """

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, identity: str, name: str, parameters: int, *, origin: str | None, operation: str, **facts: Any
    ) -> str:
        """Adds weights and the operation that made them from `origin` (None: from nothing); returns the id."""
        self.nodes.setdefault(identity, {"id": identity, "name": name, "parameters": parameters})
        edge = {"from": origin, "to": identity, "operation": operation} | facts
        if edge not in self.edges and origin != identity:
            self.edges.append(edge)
        return identity

    def absorb(self, other: Lineage) -> None:
        """Everything that is known about the weights a stage starts from."""
        self.nodes |= other.nodes
        self.edges.extend(edge for edge in other.edges if edge not in self.edges)

    def cost(self, *identities: str | None) -> float:
        """Training FLOPs that went into these weights, ancestors included; what several have in common counts once."""
        total, open_ids, seen = 0.0, list(identities), set()
        while open_ids:
            current = open_ids.pop()
            for edge in self.edges:
                if edge["to"] == current and (key := (edge["from"], edge["to"])) not in seen:
                    seen.add(key)
                    total += edge.get("flops") or 0.0
                    open_ids.append(edge["from"])
        return total

    def save(self, path: Path) -> None:
        write_whole(path, sealed({"nodes": list(self.nodes.values()), "edges": self.edges}))

    @classmethod
    def load(cls, path: Path) -> Lineage:
        """The lineage of a run folder; empty where the file does not exist.

        Raises:
            StateError: the file is not what was written.
        """
        if not path.is_file():
            return cls()
        try:
            raw = read_sealed(path)
        except StateError as error:
            again = "carry its run out again: what is finished stays, and this file is written anew"
            raise StateError(f"{error}; {again}") from error
        try:
            found = cls({str(node["id"]): dict(node) for node in raw["nodes"]}, [dict(edge) for edge in raw["edges"]])
            for edge in found.edges:
                if not isinstance(edge.get("flops"), int | float | None):
                    raise TypeError("FLOPs must be a number")
                float(edge.get("flops") or 0.0)  # not one that is too large
                if not isinstance(edge["to"], str) or not isinstance(edge["from"], str | None):
                    raise TypeError("an edge must lead from weights (or nothing) to weights")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise StateError(f"{path} is no lineage of weights ({type(error).__name__}: {error})") from None
        return found

    @classmethod
    def of_model(cls, model: Path) -> Lineage:
        """The lineage beside a model that a stage left, or that of its run; empty where there is none.

        Raises:
            StateError: the file is not what was written.
        """
        beside = model.parent / "lineage.json"
        return cls.load(beside if beside.is_file() else model.parent.parent.parent / "lineage.json")
