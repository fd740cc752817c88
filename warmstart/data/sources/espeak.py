"""Synthesised speech of any text: what the program espeak-ng makes of the rows of another source.

    source: {type: espeak, texts: {type: corpus, name: wordnet-glosses}, voices: [en+f1, en+m3], size: 1000}

As much speech with exact transcripts as one likes, in as many voices as one likes, and the same everywhere where the
version of espeak-ng is the same (it is part of the fingerprint). The price: it is a formant synthesiser, its voices are
alike and cleaner than people, so that what is learned from it is easier than speech. Synthesised once, some 75
sentences a second, and kept in the cache.

Which voice, speed and pitch a text gets depends on that text and on `seed` alone. Texts that would be spoken otherwise
than they are written (digits, signs, abbreviations with dots) are left out.
"""

from __future__ import annotations

import heapq
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from warmstart.data.cache import digest
from warmstart.data.log_mel import RATE
from warmstart.data.media import open_audio
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.data.sources.made_speech import kept_rows, wav_bytes
from warmstart.errors import DataError, UserError, nearest
from warmstart.randomness import derive_seed

VERSION = 1
PROGRAM = "espeak-ng"
PLAIN = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*(?:,? [^\W\d_]+(?:[-'’][^\W\d_]+)*)*[.!?]?")
"""Words of letters, single spaces and commas between them, and a mark at the end."""
SECONDS = 60


class Espeak(Source):
    """Rows of another source, spoken by espeak-ng: `audio`, `voice`, `speed` and `pitch` beside the text."""

    type: Literal["espeak"] = "espeak"
    texts: Source = Field(description="Where the texts come from.")
    voices: Annotated[list[str], Field(min_length=1)] = Field(
        ["en-us", "en-us+f2", "en-gb", "en-gb+m3"],
        description="Voices of espeak-ng, with or without a variant: `en`, `en-us+f1`, `de+m3`.",
    )
    speeds: Annotated[list[Annotated[int, Field(ge=80, le=450)]], Field(min_length=1)] = Field(
        [140, 160], description="Words a minute."
    )
    pitches: Annotated[list[Annotated[int, Field(ge=0, le=99)]], Field(min_length=1)] = Field(
        [40, 60], description="0 to 99."
    )
    words: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = Field(
        (3, 10), description="Fewest and most words of a text; others are left out."
    )
    size: Annotated[int, Field(gt=0)] = Field(2000, description="At most so many texts.")
    part: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = Field(
        (0.0, 1.0), description="The part of the texts that is read, by their hash; disjoint parts share no text."
    )
    seed: int = Field(0, description="Of who says what, and how.")

    @model_validator(mode="after")
    def _in_order(self) -> Espeak:
        if self.words[0] > self.words[1]:
            raise ValueError(f"words: the fewest, {self.words[0]}, are more than the most, {self.words[1]}")
        if self.part[0] >= self.part[1]:
            raise ValueError(f"part must go from a smaller to a larger number, found {list(self.part)}")
        return self

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        for row in kept_rows("espeak", self.fingerprint(), self._made(on_bad_row)):
            yield {**row, "source": self.label or self.type}

    def fingerprint(self) -> str:
        settings = self.model_dump(mode="json", exclude={"type", "label", "texts"})
        return digest("espeak", VERSION, program_version(), settings, self.texts.fingerprint())

    def _made(self, on_bad_row: OnBadRow) -> Iterator[Row]:
        for voice in self.voices:
            check_voice(voice)
        chosen = heapq.nsmallest(self.size, self._spoken_as_written(on_bad_row))  # of any order of the texts the same
        for _, text, identity in chosen:
            draw = derive_seed(self.seed, "espeak", text)
            voice = self.voices[draw % len(self.voices)]
            draw //= len(self.voices)
            speed = self.speeds[draw % len(self.speeds)]
            pitch = self.pitches[draw // len(self.speeds) % len(self.pitches)]
            how = {"voice": voice, "speed": speed, "pitch": pitch}
            yield {"text": text, "id": identity, **how, "audio": spoken(text, voice, speed, pitch)}
        if not chosen:
            raise DataError(
                f"espeak: no text has {self.words[0]} to {self.words[1]} plain words (only letters); give other texts"
            )

    def _spoken_as_written(self, on_bad_row: OnBadRow) -> Iterator[tuple[int, str, str]]:
        """(mark, text, id) of every text that can be spoken, each text once."""
        seen: set[int] = set()
        for row in self.texts.rows(on_bad_row):
            text = " ".join(row["text"].split())
            mark = derive_seed(0, "espeak part", text)
            if mark in seen or not self.part[0] <= mark / 2**63 < self.part[1] or not PLAIN.fullmatch(text):
                continue
            if self.words[0] <= len(text.split()) <= self.words[1]:
                seen.add(mark)
                yield mark, text, row["id"]


def spoken(text: str, voice: str, speed: int, pitch: int) -> bytes:
    """A text as a WAV file of 16,000 samples a second, by espeak-ng.

    Raises:
        UserError: espeak-ng is not installed.
        DataError: it cannot speak this.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "said.wav"
        _run(["-v", voice, "-s", str(speed), "-p", str(pitch), "--stdin", "-w", str(file)], text)
        return wav_bytes(open_audio(str(file), RATE), RATE)  # its own 22,050 would be resampled at every reading


def program_version() -> str:
    """The version of espeak-ng, e.g. `1.51`.

    Raises:
        UserError: it is not installed.
    """
    found = re.search(r"\d+(\.\d+)+\S*", _run(["--version"]))
    return found[0] if found else "unknown"


def check_voice(voice: str) -> None:
    """Makes sure that espeak-ng has a voice: it speaks with another one where a variant is misspelt.

    Raises:
        DataError: it has none of this name, or no such variant.
    """
    name, plus, variant = voice.partition("+")
    names, variants = _voices("--voices"), _voices("--voices=variant")
    if name not in names:
        raise DataError(f"espeak: there is no voice '{name}'{nearest(name, names)}; espeak-ng --voices lists them")
    if plus and variant not in variants:
        raise DataError(
            f"espeak: there is no variant '{variant}'{nearest(variant, variants)}; "
            "espeak-ng --voices=variant lists them"
        )


@cache
def _voices(option: str) -> frozenset[str]:
    """The names by which voices (their languages and files), or variants, can be called."""
    found: set[str] = set()
    for line in _run([option]).splitlines()[1:]:
        _, language, _, _, file, *_ = [*line.split(), "", "", "", "", ""]
        found |= {file.removeprefix("!v/")} if file.startswith("!v/") else {language, Path(file).name}
    return frozenset(found - {""})


def _run(arguments: list[str], text: str = "") -> str:
    """What espeak-ng prints; never through a shell."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(
            "the source espeak needs the program espeak-ng, which is not installed: apt-get install espeak-ng "
            "(Debian, Ubuntu), brew install espeak-ng (macOS)"
        )
    try:
        done = subprocess.run([program, *arguments], input=text.encode(), capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise DataError(f"espeak-ng gave no answer within {SECONDS} seconds to {text[:60]!r}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        raise DataError(f"espeak-ng {' '.join(arguments[:2])} failed and said: {said[-1][:200]}")
    return done.stdout.decode("utf-8", "replace")
