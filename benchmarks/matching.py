"""How fast are texts matched against half a million concepts, next to looking for each in turn?

    python benchmarks/matching.py                                    # about two minutes; made-up entries
    python benchmarks/matching.py --wordnet /usr/share/wordnet       # WordNet's lemmas, and its glosses as texts

Entries: the lemmas of WordNet, then the most frequent words and the pairs with most mutual information of Python's
standard library, up to `--entries`; without the folder of WordNet made-up words stand for its lemmas. Texts:
WordNet's glosses (captions of 12 words on average), else lines of the standard library.

Contestants, each over its own number of texts a turn, chosen so that turns take about equally long:

    scan            `entry in text` for each spaced entry, as the definition of MetaCLIP's matching says
    matcher         `warmstart.data.curate.metadata_matching.Matcher` (a tree of words)
    ahocorasick_rs  an Aho-Corasick automaton in Rust, where installed
    pyahocorasick   an Aho-Corasick automaton in C, where installed

They take turns in an order drawn anew each round; ratios are taken within a round of CPU time, because other people's
processes disturb it less than the clock. All must find the same ids. The answer is the median ratio to the scan with a
bootstrap interval over rounds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warmstart.data.curate.metadata_building import (
    WORDNET_FILES,
    bigram_counts,
    build_metadata,
    connected_pairs,
    frequent_words,
    unigram_counts,
    wordnet_names,
)
from warmstart.data.curate.metadata_matching import Matcher, spaced_entry, spacing
from warmstart.data.sources.python_stdlib import PythonStdlib

Match = Callable[[str], list[int]]
SCAN_TEXTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=None, help="folder with data.noun and the others")
    parser.add_argument("--entries", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--texts", type=int, default=4000, help="texts a turn of everything but the scan")
    args = parser.parse_args()
    lines = [line for row in PythonStdlib().rows() for line in row["text"].split("\n") if line.strip()]
    entries = metadata(lines, args.wordnet, args.entries)
    texts = glosses(args.wordnet) if args.wordnet else lines
    random.Random(0).shuffle(texts)
    texts = texts[: args.texts]
    words = statistics.mean(len(text.split()) for text in texts)
    print(f"{len(entries):,} entries, {len(texts):,} texts of {words:.1f} words on average", flush=True)
    contestants = built(entries)
    same = [contestants["matcher"](text) for text in texts[:SCAN_TEXTS]]
    assert all([match(text) for text in texts[:SCAN_TEXTS]] == same for match in contestants.values())
    found = [contestants["matcher"](text) for text in texts]
    assert all([match(t) for t in texts] == found for name, match in contestants.items() if name != "scan")
    print(f"{statistics.mean(map(len, found)):.2f} entries per text", flush=True)
    report(race(contestants, texts, args.rounds))


def metadata(lines: list[str], wordnet: Path | None, size: int) -> list[str]:
    """`size` entries; the same on every machine with the same Python and WordNet."""
    names = wordnet_names(wordnet, all_lemmas=True) if wordnet else made_up(150_000)
    words, pairs = unigram_counts(lines), bigram_counts(lines)
    return build_metadata(
        names, frequent_words(words, at_least=1), connected_pairs(pairs, words), invented_pairs(names), budget=size
    )


def made_up(count: int) -> list[str]:
    """Words of two to five syllables, one in three names of two words."""
    draw = random.Random(0)
    syllables = [c + v for c in "bcdfghjklmnprstvw" for v in "aeiou"]
    names: dict[str, None] = {}
    while len(names) < count:
        words = ("".join(draw.choices(syllables, k=draw.randint(2, 5))) for _ in range(draw.choice((1, 1, 2))))
        names[" ".join(words)] = None
    return list(names)


def invented_pairs(names: list[str]) -> list[str]:
    """Fills the list up where the corpus has too few pairs."""
    draw = random.Random(1)
    return [f"{draw.choice(names)} {draw.choice(names)}" for _ in range(500_000)]


def glosses(wordnet: Path) -> list[str]:
    """The explanations of WordNet: short texts of general words."""
    lines = (line for name in WORDNET_FILES for line in (wordnet / name).read_text(encoding="latin-1").split("\n"))
    return [line.split(" | ")[1].strip() for line in lines if " | " in line]


def built(entries: list[str]) -> dict[str, Match]:
    """The contestants, with how long and how much memory building took."""
    spaced = [spaced_entry(entry) for entry in entries]
    makers: dict[str, Callable[[], Match]] = {
        "scan": lambda: lambda text: scan(spaced, text),
        "matcher": lambda: Matcher(entries).match,
    }
    if importlib.util.find_spec("ahocorasick_rs"):
        makers["ahocorasick_rs"] = lambda: rust(spaced)
    if importlib.util.find_spec("ahocorasick"):
        makers["pyahocorasick"] = lambda: c_library(spaced)
    contestants = {}
    for name, make in makers.items():
        memory, start = resident(), time.process_time()
        contestants[name] = make()
        used = (resident() - memory) / 2**20
        print(f"{name}: built in {time.process_time() - start:.2f} s of CPU, {used:.0f} MiB", flush=True)
    return contestants


def scan(spaced: list[str], text: str) -> list[int]:
    text = spacing(text)
    return [number for number, entry in enumerate(spaced) if entry in text]


def rust(spaced: list[str]) -> Match:
    import ahocorasick_rs

    automaton = ahocorasick_rs.AhoCorasick(spaced, store_patterns=False)
    return lambda text: sorted({hit[0] for hit in automaton.find_matches_as_indexes(spacing(text), overlapping=True)})


def c_library(spaced: list[str]) -> Match:
    import ahocorasick

    automaton: Any = ahocorasick.Automaton()
    for number, entry in enumerate(spaced):
        automaton.add_word(entry, number)
    automaton.make_automaton()
    return lambda text: sorted({number for _, number in automaton.iter(spacing(text))})


def resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def race(contestants: dict[str, Match], texts: list[str], rounds: int) -> dict[str, list[float]]:
    """Texts per second of CPU time: contestant -> one number per round."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name in random.Random(turn).sample(list(contestants), len(contestants)):
            first = turn * SCAN_TEXTS % (len(texts) - SCAN_TEXTS)
            batch = texts[first : first + SCAN_TEXTS] if name == "scan" else texts
            start = time.process_time()
            for text in batch:
                contestants[name](text)
            speeds[name].append(len(batch) / (time.process_time() - start))
    return speeds


def report(speeds: dict[str, list[float]]) -> None:
    answer: dict[str, Any] = {}
    print(f"{'':16}{'texts/s: median (slowest .. fastest)':>40}{'/ scan, 95 % interval':>34}")
    for name, own in speeds.items():
        ratios = [mine / scan for mine, scan in zip(own, speeds["scan"], strict=True)]
        middle, (low, high) = statistics.median(ratios), bootstrap(ratios)
        shown = f"{statistics.median(own):,.0f} ({min(own):,.0f} .. {max(own):,.0f})"
        print(f"{name:16}{shown:>40}{f'{middle:,.0f} ({low:,.0f} .. {high:,.0f})':>34}")
        answer[name] = {"texts_per_second": statistics.median(own), "vs_scan": middle, "interval": [low, high]}
    print(json.dumps(answer))


def bootstrap(values: list[float], draws: int = 4000) -> tuple[float, float]:
    """A 95 % interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


if __name__ == "__main__":
    main()
