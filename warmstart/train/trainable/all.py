"""Every weight trains."""

from __future__ import annotations

from typing import ClassVar, Literal

from warmstart.train.trainable import Trainable


class All(Trainable):
    """Every weight of the whole model trains at every step."""

    type: Literal["all"] = "all"
    with_shares: ClassVar[bool] = True
