"""Every corpus by name."""

from __future__ import annotations

from warmstart.data.corpora import (
    anarchism,
    brown,
    captions,
    debian_descriptions,
    dictd,
    fortunes,
    hpo,
    jargon,
    libreoffice_help,
    licences,
    mail,
    metamath,
    novels,
    pictures,
    prose,
    python_apis,
    recordings,
    rst_docs,
    sotu,
    sword,
    wiki_leads,
    wordnet,
)
from warmstart.data.corpora.corpus import Corpus
from warmstart.errors import DataError, nearest

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        prose.PROSE,
        prose.PROSE_EXTENDED,
        brown.CORPUS,
        brown.TAGGED,
        sotu.CORPUS,
        wiki_leads.CORPUS,
        anarchism.CORPUS,
        novels.SHAKESPEARE_WORKS,
        novels.JANE_AUSTEN,
        novels.MOBY_DICK,
        sword.KJV,
        sword.TREASURY_OF_DAVID,
        sword.MHCC,
        mail.CORPUS,
        dictd.GCIDE,
        dictd.FOLDOC,
        wordnet.CORPUS,
        jargon.CORPUS,
        fortunes.CORPUS,
        licences.CORPUS,
        hpo.CORPUS,
        metamath.CORPUS,
        rst_docs.PYTHON_DOCS,
        rst_docs.KERNEL_DOCS,
        python_apis.CORPUS,
        debian_descriptions.CORPUS,
        libreoffice_help.CORPUS,
        captions.EMOJI_NAMES,
        captions.OPENCLIPART_CAPTIONS,
        captions.TUXPAINT_CAPTIONS,
        pictures.EMOJI,
        pictures.OPENCLIPART,
        pictures.TUXPAINT_STAMPS,
        recordings.TUXPAINT_SPEECH,
        recordings.ASTERISK_PROMPTS,
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
