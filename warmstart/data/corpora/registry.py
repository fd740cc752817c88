"""Every corpus by name."""

from __future__ import annotations

from warmstart.data.corpora import brown, prose, sotu, wiki_leads
from warmstart.data.corpora.corpus import Corpus
from warmstart.errors import DataError, nearest

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        prose.PROSE,
        brown.CORPUS,
        sotu.CORPUS,
        wiki_leads.CORPUS,
    )
}


def find(name: str) -> Corpus:
    """The corpus of this name.

    Raises:
        DataError: there is none; the message lists what there is.
    """
    if name not in CORPORA:
        raise DataError(f"there is no corpus '{name}'{nearest(name, CORPORA)}; corpora: {', '.join(sorted(CORPORA))}")
    return CORPORA[name]
