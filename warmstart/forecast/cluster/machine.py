"""Rates of hardware: what its makers publish, and what we assume of how much of it a training gets.

Published: NVIDIA's H100 data sheet (SXM: 989 TFLOP/s in bf16 without sparsity, 80 GB, NVLink 900 GB/s both ways, 450 in
each direction; PCIe 5 x16, 64 GB/s in each direction); a DGX H100 has 8 of them and 8 network adapters of 400 Gb/s
(50 GB/s) each.

Assumed, and not measured by us: that a training computes at 40 % of the peak ("The Llama 3 Herd of Models", arXiv
2407.21783, reports 38 to 43 % on 8 to 16 thousand of these), moves data at 80 % of a link's rate, and
needs a tenth of a GPU's memory for what nobody counts (fragments, kernels' scratch, the network library's buffers).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """A kind of node.

    Attributes:
        memory: bytes of a GPU.
        peak: FLOPs a second of a GPU.
        utilisation: the share of the peak that a training reaches (MFU), an assumption.
        gpus: of a node.
        inside: bytes a second that a GPU sends to the others of its node, in one direction.
        outside: bytes a second that a node sends for each of its GPUs to other nodes, in one direction.
        to_host: bytes a second from a GPU to the host.
        efficiency: the share of a link's rate that is reached, an assumption.
        spare: the share of a GPU's memory that is left free, an assumption.
    """

    memory: float = 80e9
    peak: float = 989e12
    utilisation: float = 0.4
    gpus: int = 8
    inside: float = 450e9
    outside: float = 50e9
    to_host: float = 64e9
    efficiency: float = 0.8
    spare: float = 0.1

    @property
    def usable(self) -> float:
        """Bytes of a GPU that may be planned with."""
        return self.memory * (1 - self.spare)


H100 = Machine()


@dataclass(frozen=True)
class Rates:
    """What a host does in a second, measured: `python benchmarks/rates.py` writes these numbers.

    Attributes:
        save: bytes of a state written, with checksum and flush.
        collate: tokens drawn and collated by one process.
        grow: bytes of a grown checkpoint, written.
        tokenise: tokens turned into blocks by one process.
    """

    save: float
    collate: float
    grow: float
    tokenise: float
