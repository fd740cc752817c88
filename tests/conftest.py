"""Every test runs offline, on one thread, with a cache folder of its own."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data of one test run is shared between its tests, never with the user's cache."""
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
