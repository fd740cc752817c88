"""Law: the texts of 2,300 licences and 33,600 notices of them, as the data of a licence scanner.

`label` is the category (11 of them; of a notice that names several licences only where they agree), `kind` what the
text is: `licence` (the licence itself), `text`, `notice`, `reference`, `tag`, `intro` or `clue` (rules of the scanner).
Families of near-identical texts (BSD, GPL) share `family`: split by it, or remove near-duplicates first. Rules that are
there to be wrong (`is_false_positive`) are left out. Some forty texts are not English: `language` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from warmstart.data.corpora.corpus import Corpus, Package, Row

ROOT = "licensedcode/data"
KINDS = ("text", "notice", "reference", "tag", "intro", "clue")
NO_KEYS = {"and", "or", "with"}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # both build plain values only; the first is ten times as fast


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per text: `label`, `kind`, `family`, `licence` (an expression of keys), `title`, `url`."""
    categories: dict[str, str] = {}
    for path in sorted((folder / ROOT / "licenses").glob("*.LICENSE")):
        about, text = split(path)
        categories[str(about["key"])] = about["category"]
        if text:
            yield {
                "text": text,
                "id": f"licenses/{path.stem}",
                "label": about["category"],
                "kind": "licence",
                "family": family(str(about["key"])),
                "licence": str(about["key"]),
                "title": str(about["name"]),
                "url": about.get("homepage_url"),
                **_language(about),
            }
    for path in sorted((folder / ROOT / "rules").glob("*.RULE")):
        about, text = split(path)
        if about.get("is_false_positive") or not text:
            continue
        expression = str(about["license_expression"])
        keys = [key for key in re.findall(r"[\w.+-]+", expression) if key.lower() not in NO_KEYS]
        labels = {categories.get(key) for key in keys}
        yield {
            "text": text,
            "id": f"rules/{path.stem}",
            "label": labels.pop() if len(labels) == 1 else None,
            "kind": next((kind for kind in KINDS if about.get(f"is_license_{kind}")), None),
            "family": family(keys[0]),
            "licence": expression,
            **_language(about),
        }


def split(path: Path) -> tuple[dict[str, Any], str]:
    """The YAML between the two `---` lines, and the text after them."""
    content = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    parts = re.split(r"^---[ \t]*\n", content + "\n", maxsplit=2, flags=re.MULTILINE)
    if len(parts) != 3 or parts[0].strip():
        raise ValueError(f"{path.name} does not begin with YAML between two '---' lines")
    return yaml.load(parts[1], Loader=LOADER), parts[2].strip()


def family(key: str) -> str:
    """What near-identical licences share: `bsd` of `bsd-new-nomod`."""
    return key.split("-", 1)[0]


def _language(about: dict[str, Any]) -> dict[str, str]:
    return {"language": about["language"]} if "language" in about else {}


CORPUS = Corpus(
    name="licences",
    title="Licence texts and notices (law)",
    licence="CC-BY-4.0",
    megabytes=37.34,
    rows=35_920,
    read=read,
    packages=(
        Package(
            "pypi",
            "licensedcode-data",
            "32.1.0",
            (f"{ROOT}/licenses/*.LICENSE", f"{ROOT}/rules/*.RULE"),
            sha256="18f60bde6dbabbc0a925d45ed80089cdbb7168156a2a1c118737198f9b743b96",
        ),
    ),
    columns=("label", "kind", "family", "licence", "title", "url"),
)
