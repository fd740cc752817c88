"""Sources that make speech: always the same, each voice its own, and one clear line for what cannot be spoken."""

from __future__ import annotations

import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import GivenRows
from pydantic import ValidationError

from warmstart.data.media import open_audio
from warmstart.data.sources import espeak
from warmstart.data.sources.espeak import PLAIN, Espeak, check_voice
from warmstart.data.sources.tones import LETTERS, Tones, made_words, spoken_tones
from warmstart.errors import DataError, UserError
from warmstart.randomness import numpy_generator

TEXTS = [
    f"{one} {two} {three}" for one in ("red", "new", "old") for two in ("cats", "dogs") for three in ("sing", "dig")
]

# What stands in for espeak-ng: it lists two voices, and says a text as 100 samples of silence for each character.
PROGRAM = """#!{python}
import sys, wave
words = sys.argv[1:]
open({log!r}, "a").write(" ".join(words) + "\\n")
if words == ["--version"]:
    print("eSpeak NG text-to-speech: 1.51  Data at: /nowhere")
elif words == ["--voices"]:
    print("Pty Language Age/Gender VoiceName File Other\\n 5 en-us --/M English gmw/en-US\\n 5 de --/M German gmw/de")
elif words == ["--voices=variant"]:
    print("Pty Language Age/Gender VoiceName File Other\\n 5 variant --/F female1 !v/f1")
elif "refuse" in (said := sys.stdin.read()):
    sys.exit("Error: no.")
else:
    with wave.open(words[words.index("-w") + 1], "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(2 * 100 * len(said)))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of this name on the path, and the file with what it was asked."""
    import sys

    log = tmp_path / "log.txt"
    file = tmp_path / "bin" / "espeak-ng"
    file.parent.mkdir()
    file.write_text(PROGRAM.format(python=sys.executable, log=str(log)))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    espeak._voices.cache_clear()
    yield log
    espeak._voices.cache_clear()


def speaker(texts: list[str], **settings: Any) -> Espeak:
    source = Espeak(texts="python-stdlib", voices=["en-us", "en-us+f1"], **settings)
    return source.model_copy(update={"texts": GivenRows(given=[{"text": text} for text in texts])})


# ---- tones ---------------------------------------------------------------------------------------------------------


def test_tones_are_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(Tones(size=6).rows())
    heard = [open_audio(row["audio"]) for row in first]
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path))
    again = list(Tones(size=6).rows())
    assert [{**row, "audio": ""} for row in first] == [{**row, "audio": ""} for row in again]
    for before, row in zip(heard, again, strict=True):
        assert np.array_equal(before, open_audio(row["audio"]))
    assert [row["voice"] for row in first] == [0, 1, 2, 3, 0, 1]
    assert len({row["id"] for row in first}) == 6
    assert {tuple(row) for row in first} == {("text", "id", "voice", "audio", "source")}
    assert all(3 <= len(row["text"].split()) <= 6 for row in first)
    other = list(Tones(size=6, seed=1).rows())
    assert [row["text"] for row in other] != [row["text"] for row in first]
    assert Tones(size=6).fingerprint() != Tones(size=6, seed=1).fingerprint()


def test_a_letter_has_its_own_two_tones() -> None:
    found = set()
    for letter in LETTERS[:8]:
        sound = spoken_tones(letter, 0, 8, numpy_generator(0))
        spectrum = np.abs(np.fft.rfft(sound, 16_000))
        strongest = int(spectrum.argmax())
        spectrum[strongest - 20 : strongest + 20] = 0
        found.add((strongest // 5, int(spectrum.argmax()) // 5))
    assert len(found) == 8


def test_a_voice_changes_the_sound_and_not_the_words() -> None:
    sounds = [spoken_tones("ab cd", voice, 8, numpy_generator(0)) for voice in (0, 1, 2)]
    assert len({len(sound) for sound in sounds}) == 3
    assert all(np.abs(sound).max() < 1 for sound in sounds)
    assert made_words(5, 8) == made_words(9, 8)[:5]
    assert all(a != b for word in made_words(50, 4) for a, b in pairwise(word))


def test_what_tones_cannot_be() -> None:
    with pytest.raises(ValidationError, match="the fewest, 4, are more than the most, 3"):
        Tones(words=(4, 3))


# ---- espeak --------------------------------------------------------------------------------------------------------


def test_each_text_is_said_once_and_kept(program: Path) -> None:
    source = speaker(TEXTS, pitches=[30, 70])
    rows = list(source.rows())
    assert sorted(row["text"] for row in rows) == sorted(TEXTS)
    assert {row["voice"] for row in rows} == {"en-us", "en-us+f1"}
    assert {row["pitch"] for row in rows} == {30, 70}
    assert all(len(open_audio(row["audio"])) == 100 * len(row["text"]) for row in rows)
    asked = program.read_text().count("--stdin")
    assert asked == len(TEXTS)
    assert list(source.rows()) == rows
    assert program.read_text().count("--stdin") == asked  # from the cache
    backwards = list(speaker(TEXTS[::-1], pitches=[30, 70]).rows())
    strip = [{name: row[name] for name in ("text", "voice", "speed", "pitch")} for row in rows]
    assert [{name: row[name] for name in strip[0]} for row in backwards] == strip
    assert source.fingerprint() != speaker(TEXTS, pitches=[30, 71]).fingerprint()


def test_only_what_is_spoken_as_it_is_written(program: Path) -> None:
    left_out = ["7 red cats", "call f(x) now", "see e.g. this", "two words", "a_b c d", "one two three four five six"]
    rows = list(speaker([*TEXTS, *left_out, TEXTS[0], "It's a well-known, old tune."], words=(3, 5)).rows())
    assert sorted(row["text"] for row in rows) == sorted([*TEXTS, "It's a well-known, old tune."])
    assert PLAIN.fullmatch("naïve café")
    with pytest.raises(DataError, match="no text has 3 to 5 plain words"):
        list(speaker(left_out, words=(3, 5)).rows())


def test_disjoint_parts_share_no_text(program: Path) -> None:
    parts = [{row["text"] for row in speaker(TEXTS, part=part).rows()} for part in ((0, 0.5), (0.5, 1))]
    assert parts[0] | parts[1] == set(TEXTS)
    assert not parts[0] & parts[1]
    few = [row["text"] for row in speaker(TEXTS, size=3).rows()]
    assert few == [row["text"] for row in speaker(TEXTS).rows()][:3]


def test_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"needs the program espeak-ng, .*: apt-get install espeak-ng"):
        Espeak(texts="python-stdlib").fingerprint()


@pytest.mark.parametrize(
    ("voice", "message"),
    [
        ("en-uk", r"no voice 'en-uk' \(did you mean 'en-us'\?\)"),
        ("en-us+f9", "no variant 'f9'; espeak-ng --voices=variant lists them"),
    ],
)
def test_a_voice_that_there_is_not(voice: str, message: str, program: Path) -> None:
    check_voice("en-us+f1")
    with pytest.raises(DataError, match=message) as error:
        check_voice(voice)
    assert len(str(error.value).splitlines()) == 1


def test_a_program_that_fails_says_why(program: Path) -> None:
    with pytest.raises(DataError, match=r"espeak-ng -v en-us.* failed and said: Error: no\."):
        list(speaker(["please refuse this"]).rows())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"words": (5, 4)}, "the fewest, 5"), ({"part": (0.5, 0.5)}, "from a smaller"), ({"speeds": [20]}, "80")],
)
def test_what_espeak_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Espeak(texts="python-stdlib", **settings)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_real_program() -> None:
    check_voice("en-us+f1")
    said = espeak.spoken("A small test.", "en-us+f1", 150, 50)
    assert said == espeak.spoken("A small test.", "en-us+f1", 150, 50)
    assert said != espeak.spoken("A small test.", "en-gb", 150, 50)
    assert len(said) > 16_000
