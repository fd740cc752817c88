"""Corpora of recordings: which clip belongs to which transcript, and what is left out."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from archives import Clients, deb

from warmstart.data.corpora import recordings, store
from warmstart.data.media import read_media

STAMPS = recordings.STAMPS
TUXPAINT = {
    f"{STAMPS}/animals/frog.txt": "A frog.\nfr.utf8=Une grenouille.\npt_BR.utf8=Um sapo.\nda.utf8=En frø.\n",
    f"{STAMPS}/animals/frog_desc.ogg": b"en frog",
    f"{STAMPS}/animals/frog_desc_fr.ogg": b"fr frog",
    f"{STAMPS}/animals/frog_desc_pt_BR.wav": b"pt frog",
    f"{STAMPS}/animals/frog.ogg": b"croak",  # a sound of the stamp, not its name
    f"{STAMPS}/animals/cow.txt": "A cow.\n",
    f"{STAMPS}/animals/cow_desc_fr.ogg": b"nobody knows what it says",
    f"{STAMPS}/town/hut.txt": "A hut.\nfr.utf8=Une cabane.\n",
    f"{STAMPS}/town/hut_desc_fr.ogg": b"fr hut",
}
LISTED = """\ufeff; Core Asterisk Sounds

activated: Activated.
beep: [this is a simple beep tone]
join: <beep ascending>
ahooga: (ahooga)
letters/at: at [@]
at-tone: At the sound of the tone, the time will be exactly...
menu-out: ...to exit.
unsure: Your [temporary] greeting
empty:
lost: There is no recording of this.
activated: Said twice.
dial: Dial 1: the operator.
"""
VOICE = "usr/share/asterisk/sounds/en_US_f_Allison"
PROMPTS = (
    "activated",
    "beep",
    "join",
    "ahooga",
    "letters/at",
    "at-tone",
    "menu-out",
    "unsure",
    "empty",
    "dial",
    "more",
)


@pytest.fixture
def without_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made archives are not the pinned ones."""
    monkeypatch.setattr("warmstart.data.corpora.fetch.sha256", lambda path: _pinned(path))


def _pinned(path: Path) -> str:
    packages = (*recordings.TUXPAINT_SPEECH.packages, *recordings.ASTERISK_PROMPTS.packages)
    return next(p.sha256 or "" for p in packages if path.name.startswith(f"{p.name}_"))


def test_stamps_that_are_read_out(clients: Clients, without_hashes: None) -> None:
    clients.put("tuxpaint-stamps-default=2022.06.04-1", "tuxpaint-stamps-default_2022.06.04-1_all.deb", deb(TUXPAINT))
    french = list(store.rows("tuxpaint-speech", "fr"))
    assert [(row["text"], row["id"], row["section"], read_media(row["audio"])) for row in french] == [
        ("Une grenouille.", "animals/frog", "animals", b"fr frog"),
        ("Une cabane.", "town/hut", "town", b"fr hut"),
    ]
    assert {row["language"] for row in french} == {"fr"}
    assert [(row["text"], read_media(row["audio"])) for row in store.rows("tuxpaint-speech", "en")] == [
        ("A frog.", b"en frog")
    ]
    assert [(row["text"], read_media(row["audio"])) for row in store.rows("tuxpaint-speech", "pt_BR")] == [
        ("Um sapo.", b"pt frog")
    ]
    assert len([call for call in clients.calls if "download" in call]) == 1  # one archive for all languages


def test_prompts_with_words(clients: Clients, without_hashes: None) -> None:
    listed = {"usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz": gzip.compress(LISTED.encode())}
    sounds = {f"{VOICE}/{name}.wav": name.encode() for name in PROMPTS}
    clients.put("asterisk-core-sounds-en=1.6.1-1", "asterisk-core-sounds-en_1.6.1-1_all.deb", deb(listed))
    clients.put("asterisk-core-sounds-en-wav=1.6.1-1", "asterisk-core-sounds-en-wav_1.6.1-1_all.deb", deb(sounds))
    rows = list(store.rows("asterisk-prompts"))
    assert [(row["id"], row["text"]) for row in rows] == [
        ("activated", "Activated."),
        ("letters/at", "at"),
        ("at-tone", "At the sound of the tone, the time will be exactly"),
        ("menu-out", "to exit"),
        ("dial", "Dial 1: the operator."),
    ]
    assert [read_media(row["audio"]).decode() for row in rows] == [row["id"] for row in rows]
    assert [row.get("section") for row in rows] == [None, "letters", None, None, None]


def test_only_the_packages_of_a_language_are_fetched() -> None:
    corpus = recordings.ASTERISK_PROMPTS
    assert [package.name for package in corpus.packages_for("fr")] == [
        "asterisk-core-sounds-fr",
        "asterisk-core-sounds-fr-wav",
    ]
    assert len({package.sha256 for package in corpus.packages}) == 10
