"""Recordings of people with what they say: `audio` beside the transcript in `text`.

* Tux Paint: volunteers read the captions of its stamps. Mostly one reader per language (there are no names beside the
  files), clips of about 1.4 s, 8 to 48 kHz, mono and stereo: opening makes them one rate and one channel
  (`warmstart/data/media.py`). `id` is that of the stamp, the same in all languages and in `tuxpaint-captions`.
* Asterisk: the prompts of a telephone exchange, one professional voice per language, 8 kHz. `id` is the prompt's name,
  the same in all languages. Transcripts of what is no speech (`[a beep]`) are left out, and those with brackets inside,
  of which nobody can tell whether they are spoken; remarks at the end (`at [@]`) and the dots of fragments are cut off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from warmstart.data.corpora.captions import STAMPS, read_stamps
from warmstart.data.corpora.corpus import Corpus, Package, Row
from warmstart.data.corpora.unpack import gunzip

SOUNDS = "usr/share/asterisk/sounds"
BRACKETS = re.compile(r"[\[\](){}<>]")
REMARK = re.compile(r"\s*(\[[^\]]*\]|\([^)]*\))\s*$")
READ_OUT = ("fr", "ro", "es", "ru", "bg", "el", "be", "ca", "da", "nl", "en", "pt_BR", "ml")
ASTERISK = {
    "en": (
        "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
        "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
    ),
    "es": (
        "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
        "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
    ),
    "fr": (
        "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
        "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
    ),
    "it": (
        "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
        "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
    ),
    "ru": (
        "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
        "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
    ),
}
"""Of each language the sha256 of the package with the transcripts and of the one with the recordings."""


def read_stamp_recordings(folder: Path, language: str) -> Iterator[Row]:
    """One row per stamp that somebody has read out in this language: `audio`, `section` (top folder), `folder`."""
    for row in read_stamps(folder, language):
        recording = folder / STAMPS / f"{row['id']}{ending_of(language)}"
        if recording.is_file():
            yield {**row, "audio": recording.read_bytes()}


def ending_of(language: str) -> str:
    """How the names of a language's recordings end."""
    code = "" if language == "en" else f"_{language}"
    return f"_desc{code}.{'wav' if language == 'pt_BR' else 'ogg'}"


def read_prompts(folder: Path, language: str) -> Iterator[Row]:
    """One row per prompt with words: `audio`, `section` (the folder of letters, digits, ...)."""
    listed = gunzip(folder / f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz")
    recordings = {
        path.relative_to(voice).with_suffix("").as_posix(): path
        for voice in sorted((folder / SOUNDS).iterdir())
        for path in sorted(voice.rglob("*.wav"))
    }
    seen = set()
    for line in listed.decode("utf-8-sig").splitlines():
        name, mark, said = line.partition(":")
        text = spoken(said)
        if mark and text and name in recordings and name not in seen:
            seen.add(name)
            section = name.rpartition("/")[0] or None
            yield {"text": text, "id": name, "section": section, "audio": recordings[name].read_bytes()}


def spoken(transcript: str) -> str:
    """The words of a prompt's transcript; empty where it is no speech, or unsure what of it is spoken."""
    text = REMARK.sub("", transcript.strip())
    return "" if BRACKETS.search(text) else text.strip(". ") if "..." in text else text


TUXPAINT_SPEECH = Corpus(
    name="tuxpaint-speech",
    title="Captions of Tux Paint's stamps, read out by volunteers",
    licence="GPL-2",
    use="161 MB are fetched for all languages together; mostly one reader per language",
    megabytes=0.03,
    rows=927,
    read=read_stamp_recordings,
    packages=tuple(
        Package(
            "debian",
            "tuxpaint-stamps-default",
            "2022.06.04-1",
            (f"{STAMPS}/*.txt", f"{STAMPS}/*{ending_of(language)}"),
            sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            languages=(language,),
        )
        for language in READ_OUT
    ),
    columns=("audio", "section", "folder"),
    languages=READ_OUT,
)
ASTERISK_PROMPTS = Corpus(
    name="asterisk-prompts",
    title="Prompts of a telephone exchange, one voice per language",
    licence="CC-BY-SA-3.0",
    use="the Russian recordings are CC-BY-3.0 in part; 8 kHz",
    megabytes=0.02,
    rows=551,
    read=read_prompts,
    packages=tuple(
        Package("debian", name, "1.6.1-1", files, sha256=sha256, languages=(language,))
        for language, hashes in ASTERISK.items()
        for (name, files), sha256 in zip(
            (
                (f"asterisk-core-sounds-{language}", (f"usr/share/doc/*/core-sounds-{language}.txt.gz",)),
                (f"asterisk-core-sounds-{language}-wav", (f"{SOUNDS}/*.wav",)),
            ),
            hashes,
            strict=True,
        )
    ),
    columns=("audio", "section"),
    languages=tuple(ASTERISK),
)
