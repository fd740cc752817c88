"""How many bytes of tensors are alive while something runs, and how many at most.

PyTorch tells a mode of every operation and what it returns; a storage tells when it is gone. So the count is exact, on
any device, for real tensors and for fake ones, which have sizes and no memory. What it does not see: scratch space that
a kernel takes and gives back by itself, and what an allocator loses by fragments.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        now: bytes that are alive.
        peak: the most there were.

    Args:
        apart_from: tensors that do not count (the weights).
    """

    def __init__(self, apart_from: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._apart = {tensor.untyped_storage()._cdata for tensor in apart_from}
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._seen or key in self._apart:
            return
        size = storage.nbytes()
        self._seen[key] = weakref.ref(storage, lambda _: self._gone(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        if self._seen.pop(key, None) is not None:
            self.now -= size
