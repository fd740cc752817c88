"""Three part-of-speech taggers that train in seconds: learners whose learning curves can be had in full.

    unigram         a word's most frequent tag
    hidden-markov   bigrams of tags, with tags of unknown words by their endings (TnT, Brants 2000)
    perceptron      an averaged perceptron over words, endings and the tags before, one pass, from left to right

Each learns sentence by sentence and can be asked in between. What it knows depends only on the sentences so far in
their order, so learning on from a prefix gives what learning the longer prefix from nothing gives: a whole learning
curve costs one pass over the data.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

Sentence = tuple[Sequence[str], Sequence[str]]
"""Words and their tags."""
LONGEST_ENDING = 5
RARE = 10
GUESSES = 8
START = "<start>"


class Tagger(Protocol):
    """Learns from tagged sentences, and tags."""

    def learn(self, sentences: Iterable[Sentence]) -> None: ...

    def tag(self, words: Sequence[str]) -> list[str]:
        """One tag per word; only after something was learned."""
        ...


def accuracy(tagger: Tagger, sentences: Iterable[Sentence]) -> float:
    """The percentage of tokens that get their own tag."""
    right = total = 0
    for words, tags in sentences:
        right += sum(a == b for a, b in zip(tagger.tag(words), tags, strict=True))
        total += len(tags)
    return 100 * right / total


class Unigram:
    """A word's most frequent tag; of an unknown word the most frequent tag of all."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.tags: Counter[str] = Counter()

    def learn(self, sentences: Iterable[Sentence]) -> None:
        for words, tags in sentences:
            self.tags.update(tags)
            for word, tag in zip(words, tags, strict=True):
                self.counts[word][tag] += 1

    def tag(self, words: Sequence[str]) -> list[str]:
        common = self.tags.most_common(1)[0][0]
        return [self.counts[word].most_common(1)[0][0] if word in self.counts else common for word in words]


class HiddenMarkov:
    """Viterbi over bigrams of tags; the weights of bigram and unigram by deleted interpolation."""

    def __init__(self) -> None:
        self.words: dict[str, Counter[str]] = defaultdict(Counter)
        self.tags: Counter[str] = Counter()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self._ready = False

    def learn(self, sentences: Iterable[Sentence]) -> None:
        self._ready = False
        for words, tags in sentences:
            self.tags.update(tags)
            self.tags[START] += 1
            self.pairs.update(zip([START, *tags], tags, strict=False))
            for word, tag in zip(words, tags, strict=True):
                self.words[word][tag] += 1

    def tag(self, words: Sequence[str]) -> list[str]:
        if not self._ready:
            self._prepare()
        scores = {START: 0.0}
        pointers: list[dict[str, str]] = []
        for word in words:
            found: dict[str, float] = {}
            from_tag: dict[str, str] = {}
            for tag, emission in self._emissions(word):
                steps = self._steps_to(tag)
                best, before = -math.inf, ""
                for old, score in scores.items():
                    reached = score + steps[old]
                    if reached > best:
                        best, before = reached, old
                found[tag], from_tag[tag] = best + emission, before
            scores = found
            pointers.append(from_tag)
        path = [max(scores, key=lambda tag: scores[tag])]
        for from_tag in reversed(pointers[1:]):
            path.append(from_tag[path[-1]])
        return path[::-1]

    def _prepare(self) -> None:
        """What is worked out of the counts before tagging."""
        total = sum(count for tag, count in self.tags.items() if tag != START)
        self._share = {tag: count / total for tag, count in self.tags.items() if tag != START}
        bigram = unigram = 0
        for (before, tag), count in self.pairs.items():
            by_pair = (count - 1) / (self.tags[before] - 1) if self.tags[before] > 1 else 0.0
            by_tag = (self.tags[tag] - 1) / (total - 1) if total > 1 else 0.0
            if by_pair > by_tag:
                bigram += count
            else:
                unigram += count
        self._weight = bigram / (bigram + unigram)
        self._steps: dict[str, dict[str, float]] = {}
        self._known: dict[str, list[tuple[str, float]]] = {}
        endings: dict[str, Counter[str]] = defaultdict(Counter)
        for word, counts in self.words.items():
            if sum(counts.values()) <= RARE:
                for ending in _endings(word):
                    endings[ending].update(counts)
        self._endings = endings
        shares = np.array(list(self._share.values()))
        self._abstraction = float(shares.std()) or 0.1
        self._ready = True

    def _steps_to(self, tag: str) -> dict[str, float]:
        """log P(tag | tag before), for every tag before."""
        if tag not in self._steps:
            rest = (1 - self._weight) * self._share[tag] + 1e-12
            self._steps[tag] = {
                before: math.log(self._weight * self.pairs[(before, tag)] / count + rest)
                for before, count in self.tags.items()
            }
        return self._steps[tag]

    def _emissions(self, word: str) -> list[tuple[str, float]]:
        """Tags that a word may have, with log P(word | tag) up to what is the same for all of them."""
        if word not in self._known:
            if word in self.words:
                found = [(tag, math.log(count / self.tags[tag])) for tag, count in self.words[word].items()]
            else:
                found = self._guessed(word)
            self._known[word] = found
        return self._known[word]

    def _guessed(self, word: str) -> list[tuple[str, float]]:
        """Of an unknown word: by its endings, each longer one smoothed with the shorter one."""
        probability = dict(self._share)
        for ending in reversed(list(_endings(word))):
            counts = self._endings.get(ending)
            if not counts:
                break
            total, theta = sum(counts.values()), self._abstraction
            probability = {tag: (counts[tag] / total + theta * p) / (1 + theta) for tag, p in probability.items()}
        likeliest = sorted(probability, key=lambda tag: (-probability[tag], tag))[:GUESSES]
        return [(tag, math.log(probability[tag] / self._share[tag])) for tag in likeliest]


def _endings(word: str) -> Iterable[str]:
    """From the longest to the empty one; words with a capital have endings of their own."""
    mark = "^" if word[:1].isupper() else ""
    return (mark + word[len(word) - length :] for length in range(min(LONGEST_ENDING, len(word)), -1, -1))


class Perceptron:
    """An averaged perceptron: the mean of the weights after every token. Weights are whole numbers, so the mean is
    exact."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.tags: dict[str, int] = {}
        self.names: list[str] = []
        self.weights = np.zeros((1024, 16), np.int32)
        self.moments = np.zeros((1024, 16), np.int64)
        self.steps = 0
        self._mean: np.ndarray | None = None

    def learn(self, sentences: Iterable[Sentence]) -> None:
        self._mean = None
        for words, tags in sentences:
            before, earlier = START, START
            for place, tag in enumerate(tags):
                gold = self._tag_id(tag)
                features = features_of(words, place, before, earlier)
                ids = [self.ids.setdefault(name, len(self.ids)) for name in features]
                self._grow()
                guess = int(self.weights[ids, : len(self.names)].sum(0).argmax())
                if guess != gold:
                    for column, change in ((gold, 1), (guess, -1)):
                        self.weights[ids, column] += change
                        self.moments[ids, column] += change * self.steps
                self.steps += 1
                before, earlier = self.names[guess], before

    def tag(self, words: Sequence[str]) -> list[str]:
        if self._mean is None:
            rows = len(self.ids)
            mean = self.weights[:rows] - self.moments[:rows] / max(self.steps, 1)
            self._mean = mean[:, : len(self.names)].astype(np.float32)
        found: list[str] = []
        before, earlier = START, START
        for place in range(len(words)):
            known = map(self.ids.get, features_of(words, place, before, earlier))
            scores = self._mean[[number for number in known if number is not None]].sum(0)
            before, earlier = self.names[int(scores.argmax())], before
            found.append(before)
        return found

    def _tag_id(self, tag: str) -> int:
        if tag not in self.tags:
            self.tags[tag] = len(self.names)
            self.names.append(tag)
        return self.tags[tag]

    def _grow(self) -> None:
        """Room for new features and tags, twice as much each time."""
        rows, columns = self.weights.shape
        wanted = (rows * 2 if len(self.ids) > rows else rows, columns * 2 if len(self.names) > columns else columns)
        if wanted != (rows, columns):
            for name in ("weights", "moments"):
                old = getattr(self, name)
                new = np.zeros(wanted, old.dtype)
                new[:rows, :columns] = old
                setattr(self, name, new)


def features_of(words: Sequence[str], place: int, before: str, earlier: str) -> list[str]:
    """What a perceptron sees of a word: itself, its ending and shape, its neighbours, the two tags before."""
    word = words[place]
    shape = f"{word[:1].isupper():d}{any(c.isdigit() for c in word):d}{'-' in word:d}"
    left = words[place - 1] if place else START
    right = words[place + 1] if place + 1 < len(words) else START
    return [
        "bias",
        f"w{word}",
        f"e{word[-3:]}",
        f"f{word[-2:]}",
        f"p{word[:1]}",
        f"s{shape}",
        f"l{left}",
        f"r{right}",
        f"a{right[-3:]}",
        f"t{before}",
        f"u{earlier} {before}",
        f"v{before} {word}",
    ]


TAGGERS: dict[str, Callable[[], Tagger]] = {
    "unigram": Unigram,
    "hidden-markov": HiddenMarkov,
    "perceptron": Perceptron,
}
