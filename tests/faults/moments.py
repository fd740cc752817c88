"""A fault at a chosen moment: when a function is called for the n-th time."""

from __future__ import annotations

import importlib
from collections.abc import Callable


def when(target: str, fault: Callable[[], None], call: int = 1) -> Callable[[], None]:
    """What arms `fault` to happen at a call of `target` (`module:name` or `module:Class.method`), in a child."""

    def arm() -> None:
        module, _, path = target.partition(":")
        owner = importlib.import_module(module)
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        original, calls = getattr(owner, name), [0]

        def wrapped(*args, **kwargs):  # type: ignore[no-untyped-def]
            calls[0] += 1
            if calls[0] == call:
                fault()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    return arm
