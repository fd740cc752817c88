"""Tests of corpora share `archives.py`; each has a cache and registries of its own, and no network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from archives import Clients


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "corpora"


@pytest.fixture
def clients(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    made = Clients()
    monkeypatch.setattr("warmstart.data.corpora.fetch.subprocess.run", made.run)
    monkeypatch.setattr("warmstart.data.corpora.fetch.shutil.which", lambda name: f"/bin/{Path(name).name}")
    return made
