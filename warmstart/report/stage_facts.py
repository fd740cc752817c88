"""What a finished stage says of itself (`stage.json`), as far as a run's page shows it.

The file may come from anybody: everything has its type before it is shown, and what the page does not know is left out.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _mapping_or_empty(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


Number = Annotated[float | None, Field(allow_inf_nan=False)]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Change(_Form):
    """One surgery."""

    surgery: Annotated[dict[str, Any], BeforeValidator(_mapping_or_empty)] = {}
    promise: str = ""
    largest: float | None = None


class Reason(_Form):
    reason: str = ""


class Settled(_Form):
    """What was measured before the stage trained."""

    learning_rate: Number = None
    probe: Reason | None = None


class Facts(_Form):
    """What the stage read."""

    fingerprint: str | None = None
    statistics: dict[str, Any] = {}


class StageFacts(_Form):
    """The content of `stage.json`."""

    steps: Number = None
    tokens: Number = None
    flops: Number = None
    seconds: Number = None
    peak_memory_bytes: Number = None
    parameters: Number = None
    final: dict[str, float | None] = {}
    surgery: list[Change] = []
    settled: Settled = Settled()
    data: Facts = Facts()
    guard: dict[str, float] = {}


class RunFacts(_Form):
    """The content of `run.json`."""

    versions: dict[str, str | None] = {}
    commit: str | None = None
    machine: dict[str, Any] = {}
