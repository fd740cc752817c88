"""Tones for letters: speech that is made of nothing, for tests and for trying things out offline.

A text is words of a small made-up lexicon; every letter is two tones of its own that sound together, like the two
formants of a vowel, and words are parted by silence. A voice shifts all tones, speaks faster or slower and has noise of
its own. So there is something to learn at every level: letters from tones, words from letters, and what voices share.
What it lacks is all that is hard about speech: no letter sounds different beside another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from warmstart.data.cache import digest
from warmstart.data.log_mel import RATE
from warmstart.data.sources import OnBadRow, Row, Source, raise_error
from warmstart.data.sources.made_speech import kept_rows, wav_bytes
from warmstart.randomness import numpy_generator

VERSION = 1
LETTERS = "abcdefghijklmnop"
LOWEST, HIGHEST = 300.0, 2400.0
"""Hertz: between them lie the tones of all letters, of a voice that shifts nothing."""
LETTER_SECONDS, PAUSE_SECONDS, EDGE_SECONDS = 0.09, 0.08, 0.01


class Tones(Source):
    """Words of made-up letters, each letter two tones; `voice` says which voice speaks."""

    type: Literal["tones"] = "tones"
    size: Annotated[int, Field(gt=0)] = Field(200, description="How many texts.")
    voices: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        [0, 1, 2, 3], description="Numbers of voices; the texts are dealt out to them in turn."
    )
    words: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = Field(
        (3, 6), description="Fewest and most words of a text."
    )
    lexicon: Annotated[int, Field(gt=0, le=1000)] = Field(30, description="How many words there are.")
    letters: Annotated[int, Field(ge=2, le=len(LETTERS))] = Field(8, description="How many letters there are.")
    seed: int = Field(0, description="Of the texts; the lexicon and the voices are always the same.")

    @model_validator(mode="after")
    def _in_order(self) -> Tones:
        if self.words[0] > self.words[1]:
            raise ValueError(f"words: the fewest, {self.words[0]}, are more than the most, {self.words[1]}")
        return self

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        for row in kept_rows("tones", self.fingerprint(), self._made()):
            yield {**row, "source": self.label or self.type}

    def fingerprint(self) -> str:
        return digest("tones", VERSION, self.size, self.voices, self.words, self.lexicon, self.letters, self.seed)

    def _made(self) -> Iterator[Row]:
        lexicon = made_words(self.lexicon, self.letters)
        for number in range(self.size):
            draw = numpy_generator(self.seed, "tones", number)
            count = int(draw.integers(self.words[0], self.words[1] + 1))
            text = " ".join(lexicon[place] for place in draw.integers(len(lexicon), size=count))
            voice = self.voices[number % len(self.voices)]
            sound = wav_bytes(spoken_tones(text, voice, self.letters, draw), RATE)
            yield {"text": text, "id": f"tones-{self.seed}:{number}", "voice": voice, "audio": sound}


def made_words(count: int, letters: int) -> list[str]:
    """Words of two to four letters, always the same, the shorter list the beginning of the longer one.

    No letter follows itself, so that a word can be told from its tones alone.
    """
    draw = numpy_generator(0, "tones", "lexicon", letters)
    words: list[str] = []
    while len(words) < count:
        word = [int(draw.integers(letters))]
        for _ in range(int(draw.integers(1, 4))):
            word.append((word[-1] + int(draw.integers(1, letters))) % letters)
        words.append("".join(LETTERS[letter] for letter in word))
    return words


def spoken_tones(text: str, voice: int, letters: int, generator: np.random.Generator) -> np.ndarray:
    """A text in tones: float64 `(samples,)` between -1 and 1, 16,000 a second.

    Args:
        text: words of the first `letters` letters, and spaces.
        voice: decides how high, how fast and how noisy; voice 0 shifts nothing.
        generator: of the noise.
    """
    kind = numpy_generator(voice, "tones", "voice")
    shift, pace = (1.0, 1.0) if voice == 0 else (kind.uniform(0.8, 1.25), kind.uniform(0.85, 1.15))
    steps = np.geomspace(LOWEST, HIGHEST, 2 * letters)
    edge = int(EDGE_SECONDS * RATE)
    pieces = []
    for sign in f" {text} ":
        count = int((PAUSE_SECONDS if sign == " " else LETTER_SECONDS) * pace * RATE)
        if sign == " ":
            pieces.append(np.zeros(count))
            continue
        number = LETTERS.index(sign)
        time = np.arange(count) / RATE
        # the second tone stands in another order than the first: one tone alone does not tell the letter's neighbours
        second = steps[letters + (3 * number + 1) % letters]
        tone = sum(np.sin(2 * np.pi * shift * hertz * time) for hertz in (steps[number], second)) * 0.3
        ramp = np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / edge)
        pieces.append(tone * ramp)
    sound = np.concatenate(pieces)
    return sound + kind.uniform(0.002, 0.01) * generator.standard_normal(len(sound))
