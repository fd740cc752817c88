"""A limit on what a configuration may ask for, whatever its fields are called.

A `config.json` of a few bytes can ask for a billion layers, or for one matrix of a petabyte. No list of fields covers
all of `transformers`, so the limit watches the building itself: modules and weights are counted as they are
registered, on the meta device, where they have no memory yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import nn
from torch.nn.modules import module as registration

from warmstart.errors import ModelError

MOST_MODULES = 250_000
"""The largest mixtures of experts in use have some 100,000."""


def memory() -> int:
    """Bytes that this machine could give to a model: its memory and its swap space."""
    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


@contextmanager
def bounded(what: str, tensors: int | None = None) -> Iterator[None]:
    """Ends the building of a model on the meta device that gets too many modules or more weights than memory.

    Args:
        what: the model, for the message.
        tensors: how many the files have that the model is about to get: it may have some more weights (one tensor can
            be taken apart, a new head is drawn), not many times as many.

    Raises:
        ModelError: it got too large.
    """
    limit = memory()
    most = None if tensors is None else 100 + 4 * tensors
    modules = weights = parameters = 0

    def count_module(_: nn.Module, __: str, ___: Any) -> None:
        nonlocal modules
        modules += 1
        if modules > MOST_MODULES:
            raise TooLarge(f"{what} would have more than {MOST_MODULES:,} modules; look at its number of layers")

    def count_weights(_: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal weights
        if tensor is None or tensor.device.type != "meta":
            return
        weights += tensor.numel() * tensor.itemsize
        if weights > limit:
            raise TooLarge(
                f"{what} needs more than {weights / 2**30:,.0f} GiB (at '{name}' {tuple(tensor.shape)}); this machine "
                f"has {limit / 2**30:,.0f} GiB"
            )

    def count_parameter(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal parameters
        parameters += tensor is not None and tensor.device.type == "meta"
        if most is not None and parameters > most:
            raise TooLarge(f"{what} would have more than {most:,} weights, but its files hold {tensors:,}")
        count_weights(module, name, tensor)

    handles = [
        registration.register_module_module_registration_hook(count_module),
        registration.register_module_parameter_registration_hook(count_parameter),
        registration.register_module_buffer_registration_hook(count_weights),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class TooLarge(ModelError):
    """A model that is not built."""
