"""Documentation in reStructuredText, one page per row: Python's and the Linux kernel's.

The markup stays: it is what such pages are made of. The top folder is the domain (`section`, and `url` as a web address
would have it). Both packages hold every page several times (HTML, and copies of the sources for it); one copy is read.
Both get security updates, after which the registry has only the newer version.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.unpack import gunzip

PYTHON = "usr/share/doc/python3.11/html/_sources"
KERNEL = "usr/share/doc/linux-doc-6.1/Documentation"
TRANSLATIONS = {"zh-CN": "zh_CN", "zh-TW": "zh_TW", "it": "it_IT", "ja": "ja_JP", "ko": "ko_KR"}


def read_python(folder: Path, language: str) -> Iterator[Row]:
    """The pages of Python's documentation; `id` is the page's path."""
    yield from _pages(folder / PYTHON, "*.rst.txt", "docs.python.org")


def read_kernel(folder: Path, language: str) -> Iterator[Row]:
    """The kernel's pages in English, or the translated ones of another language."""
    if language == "en":
        for row in _pages(folder / KERNEL, "*.rst.gz", "docs.kernel.org"):
            if not row["id"].startswith("translations/"):
                yield row
    else:
        yield from _pages(folder / KERNEL / "translations" / TRANSLATIONS[language], "*.rst.gz", "docs.kernel.org")


def _pages(root: Path, pattern: str, host: str) -> Iterator[Row]:
    for path in sorted(root.rglob(pattern)):
        raw = gunzip(path) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8").strip("\n")
        if not text.strip():
            continue
        name = path.relative_to(root).as_posix()
        section = name.split("/")[0] if "/" in name else None
        yield {
            "text": text,
            "id": name.removesuffix(".gz").removesuffix(".txt").removesuffix(".rst"),
            "title": title(text),
            "section": section,
            "url": f"{host}/{section}" if section else host,
        }


def title(text: str) -> str | None:
    """The first line that is underlined with one punctuation mark."""
    lines = text.split("\n")
    for line, below in pairwise(lines):
        mark, words = below.strip(), line.strip()
        underlined = len(mark) >= max(3, len(words) // 2) and len(set(mark)) == 1 and mark[0] in "=-~#*^\"'+"
        if underlined and len(set(words)) > 1 and not words.startswith(".."):
            return words
    return None


PYTHON_DOCS = Corpus(
    name="python-docs",
    title="Documentation of Python 3.11",
    licence="PSF",
    megabytes=11.05,
    rows=497,
    read=read_python,
    packages=(
        Package(
            "debian",
            "python3.11-doc",
            "3.11.2-6+deb12u9",
            (f"{PYTHON}/*.rst.txt",),
            sha256="5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
            replaced=True,
            text_sha256="b9002cc8178d904a3688128346315b558f95ff93adb5fbe836c40f2cb4a26440",
        ),
    ),
    columns=("title", "section", "url"),
)
KERNEL_DOCS = Corpus(
    name="kernel-docs",
    title="Documentation of the Linux kernel 6.1",
    licence="GPL-2",
    megabytes=21.37,
    rows=2_841,
    read=read_kernel,
    packages=(
        Package(
            "debian",
            "linux-doc-6.1",
            "6.1.192-2",
            (f"{KERNEL}/*.rst.gz",),
            sha256="d1d1b5a602f0d439ecc39e713e044bf2df30d839fb4bf8a7b859ba3273c47993",
            replaced=True,
            text_sha256="27125a8f2c220056ccc18957bd7925045345b32b95bde08d2813bdc0f23aa16d",
        ),
    ),
    columns=("title", "section", "url"),
    languages=("en", *TRANSLATIONS),
)
