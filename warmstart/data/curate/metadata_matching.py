"""Which entries of a long list of concepts (the *metadata*) occur in a text, and rows without any dropped (MetaCLIP).

A text is spaced: one space at each end, a space on each side of `, . ; : ? ! ` and of the back-tick, tab and line ends
become spaces. An entry occurs where it stands between two spaces of the spaced text. Nothing is lower-cased or stemmed:
"cat" is in "a cat." and not in "Cat", "concatenate", "cat's" or "cat-like".

That is a search for half a million patterns. Because an entry starts and ends at a space, "occurs" means exactly that
the entry's words (its pieces between single spaces, empty ones too) are consecutive words of the text; so a tree of
words, one dictionary look-up per step, finds all of them without any library. Measured with 500,000 entries
(benchmarks/README.md): 2,700 times the speed of looking for each entry in turn, more than the Aho-Corasick automaton in
C that the paper's code uses, and 0.8 of one in Rust (`ahocorasick_rs`), in half the time to build. The price of needing
no library and of travelling between processes is that fifth.

Scripts without spaces (Chinese, Japanese, Thai, ...) need a search inside of words: with `unspaced_scripts` the side of
an entry that begins or ends with such a character, or with punctuation, may touch anything. Only those entries go to
`ahocorasick_rs` (extra `[data]`). The published list of these characters leaves out kana; here kana counts.

Source: "Demystifying CLIP Data", arXiv 2309.16671, section 3; the unspaced scripts come from its second version's code.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Sequence
from typing import Any

from warmstart.errors import DataError, UserError

_SPACED = [(mark, f" {mark} ") for mark in ",.;:?!`"] + [(blank, " ") for blank in "\t\n\r"]
_UNSPACED = (  # first and last code points
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FFF),  # radicals
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x4DBF),  # Chinese characters, in five ranges
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2EBEF),
    (0x30000, 0x323AF),
)


def spacing(text: str) -> str:
    """The text with a space at both ends and around each of the seven marks, and no tab or line end."""
    for char, replacement in _SPACED:
        if char in text:  # ten scans for a character cost less than one `str.translate`
            text = text.replace(char, replacement)
    return f" {text} "


def is_unspaced(char: str) -> bool:
    """Whether a character belongs to a script without spaces, or is punctuation."""
    code = ord(char)
    return (
        char in string.punctuation
        or any(first <= code <= last for first, last in _UNSPACED)
        or unicodedata.category(char).startswith("P")
        or char == "～"
    )


def spaced_entry(entry: str, unspaced_scripts: bool = False) -> str:
    """What must be a part of a spaced text: the entry with a space on each side that has to end a word."""
    left = "" if unspaced_scripts and is_unspaced(entry[0]) else " "
    right = "" if unspaced_scripts and is_unspaced(entry[-1]) else " "
    return f"{left}{entry}{right}"


def check_entries(entries: Sequence[str]) -> None:
    """Checks a list of metadata entries.

    Raises:
        DataError: there is none; or one is no text, empty, or there twice.
    """
    if not entries:
        raise DataError("the metadata is empty: there is no entry to match")
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise DataError(f"metadata entry {number} must be text, found {type(entry).__name__} ({entry!r:.40})")
        if not entry:
            raise DataError(f"metadata entry {number} is empty")
        if seen.setdefault(entry, number) != number:
            raise DataError(f"metadata entry {number} repeats entry {seen[entry]}: '{entry[:60]}'")


class Matcher:
    """Finds the entries of a text.

    Args:
        entries: the metadata; an entry's id is its place in the list.
        unspaced_scripts: see the module's docstring.

    Raises:
        DataError: as `check_entries`.
        UserError: `unspaced_scripts` is on, an entry needs it, and `ahocorasick_rs` is not installed.
    """

    def __init__(self, entries: Sequence[str], *, unspaced_scripts: bool = False) -> None:
        check_entries(entries)
        self.entries = list(entries)
        self.unspaced_scripts = unspaced_scripts
        inside = []
        if unspaced_scripts:
            inside = [n for n, entry in enumerate(self.entries) if is_unspaced(entry[0]) or is_unspaced(entry[-1])]
        self._words = _word_tree(self.entries, set(inside))
        self._inside_ids = inside
        self._inside = _automaton([spaced_entry(self.entries[n], True) for n in inside]) if inside else None

    def match(self, text: str) -> list[int]:
        """The ids of all entries that occur in a text, each once, ascending."""
        spaced = spacing(text)
        found = _in_tree(self._words, spaced[1:-1].split(" "))
        if self._inside is not None:
            hits = self._inside.find_matches_as_indexes(spaced, overlapping=True)
            found.update(self._inside_ids[hit[0]] for hit in hits)
        return sorted(found)

    def __reduce__(self) -> tuple[Any, ...]:
        # An automaton cannot travel between processes; the entries can.
        return _rebuilt, (self.entries, self.unspaced_scripts)


def _rebuilt(entries: list[str], unspaced_scripts: bool) -> Matcher:
    return Matcher(entries, unspaced_scripts=unspaced_scripts)


# A tree of words: word -> id where exactly one entry goes this way and ends here, else a tree, which has the id of the
# entry that ends here under the key None. Numbers instead of one-element dictionaries save two thirds of the memory.
_Tree = dict[str | None, Any]


def _word_tree(entries: list[str], left_out: set[int]) -> _Tree:
    root: _Tree = {}
    for number, entry in enumerate(entries):
        if number in left_out:
            continue
        *path, last = entry.split(" ")
        tree = root
        for word in path:
            below = tree.get(word)
            if not isinstance(below, dict):
                below = tree[word] = {} if below is None else {None: below}
            tree = below
        below = tree.get(last)
        if isinstance(below, dict):
            below[None] = number
        else:
            tree[last] = number
    return root


def _in_tree(root: _Tree, words: list[str]) -> set[int]:
    found: set[int] = set()
    end = len(words)
    for start, word in enumerate(words):
        below = root.get(word)
        place = start
        while below is not None:
            if below.__class__ is not dict:
                found.add(below)
                break
            if None in below:
                found.add(below[None])
            place += 1
            if place == end:
                break
            below = below.get(words[place])
    return found


def _automaton(patterns: list[str]) -> Any:
    try:
        import ahocorasick_rs
    except ImportError:
        raise UserError(
            "matching inside of unspaced scripts needs ahocorasick_rs: pip install 'warmstart[data]'"
        ) from None
    return ahocorasick_rs.AhoCorasick(patterns, store_patterns=False)
