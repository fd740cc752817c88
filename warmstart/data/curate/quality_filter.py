"""The published hand-written quality rules: Gopher's, C4's and FineWeb's, and Gopher's repetition rules, as datatrove
has them.

Rules by hand need no reference and no training, say why a document went, and hit web residue (menus, lists, spam); they
know nothing of content, and code, verse and tables fail them. The stop words and the average word length of `gopher`
are English.

datatrove counts words with spaCy, which is large and slow. Here words are runs of letters and digits, and every other
visible character is a word of its own: needs nothing, and takes a third to a tenth of the time. The price: decisions
near a limit differ from datatrove's own (how often: docs/curation.md).

Rae et al., "Scaling Language Models: ... Gopher" (2112.11446), table A1; Raffel et al., "T5" (1910.10683), section 2.2;
Penedo et al., "FineWeb" (2406.17557), section 3.6.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from warmstart.data.curate import Curation
from warmstart.data.steps import Columns, Counted, chosen, column
from warmstart.errors import UserError, nearest

WORD = re.compile(r"[a-z]+://\S+|[-.]{2,}|[^\W_]\w*(?:['’.,:/@]\w+)*|[^\w\s]|_")
SENTENCE = re.compile(r"[^.!?。！？…]*[.!?。！？…]+[\"'”’)\]]*|[^.!?。！？…]+$")

# The limits of each set of rules, by the names that datatrove gives them (the test compares).
LIMITS = {
    "gopher": (
        "min_doc_words",
        "max_doc_words",
        "min_avg_word_length",
        "max_avg_word_length",
        "max_symbol_word_ratio",
        "max_bullet_lines_ratio",
        "max_ellipsis_lines_ratio",
        "max_non_alpha_words_ratio",
        "min_stop_words",
    ),
    "c4": ("min_num_sentences", "min_words_per_line", "max_word_length"),
    "fineweb": ("line_punct_thr", "short_line_thr", "short_line_length", "char_duplicates_ratio", "new_line_ratio"),
    "gopher-repetition": ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"),
}
Settings = tuple[tuple[str, float], ...]


def words(text: str) -> list[str]:
    """Words, addresses, runs of hyphens or full stops, and other marks one by one."""
    return WORD.findall(text)


def sentences(text: str) -> list[str]:
    """Pieces that end with a full stop, a question or an exclamation mark."""
    return [piece.strip() for piece in SENTENCE.findall(text) if piece.strip()]


@cache
def _filter(rules: str, settings: Settings) -> Any:
    try:
        from datatrove.pipeline import filters
        from datatrove.utils.word_tokenizers import WordTokenizer
    except ImportError:
        raise UserError("quality filters need datatrove: pip install 'warmstart[data]'") from None

    class Words(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return words(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return sentences(text)

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [match.span() for match in SENTENCE.finditer(text)]

    kinds = {
        "gopher": filters.GopherQualityFilter,
        "c4": filters.C4QualityFilter,
        "fineweb": filters.FineWebQualityFilter,
        "gopher-repetition": filters.GopherRepetitionFilter,
    }
    return kinds[rules](language=Words(), **dict(settings))


def verdict(text: str, rules: str, settings: Settings = ()) -> tuple[str | None, str]:
    """What a set of rules says of a text.

    Args:
        rules: `gopher`, `c4`, `fineweb` or `gopher-repetition`.
        settings: limits other than the published ones, e.g. `(("min_doc_words", 20),)`.

    Returns:
        The text to keep (C4's rules remove lines) or None, and the reason for dropping it, e.g. `short_doc`.

    Raises:
        UserError: datatrove is not installed.
    """
    if not words(text):
        return None, "no_words"
    rule = _filter(rules, settings)
    from datatrove.data import Document

    document = Document(text=text, id="")
    answer = rule.filter(document)
    kept, reason = answer if isinstance(answer, tuple) else (answer, "")
    return (document.text if kept else None), reason.removeprefix("gopher_")


class _Rules(Curation):
    """What the two parts share."""

    limits: dict[str, float] = Field(
        default_factory=dict,
        description="Limits other than the published ones, by datatrove's names; 0 switches a limit of Gopher's off.",
    )

    def _apply(self, columns: Columns, rules: list[str]) -> Columns:
        texts: list[str] = []
        rows: list[int] = []
        reasons: Counter[str] = Counter()
        for row, text in enumerate(column(columns, "text")):
            for name in rules:
                settings = tuple(sorted((k, v) for k, v in self.limits.items() if k in LIMITS[name]))
                changed, reason = verdict(text, name, settings)
                if changed is None:
                    reasons[reason] += 1
                    break
                text = changed
            else:
                rows.append(row)
                texts.append(text)
        return Counted({**chosen(columns, rows), "text": texts}, reasons)

    def _check(self, rules: list[str]) -> None:
        allowed = [limit for name in rules for limit in LIMITS[name]]
        for limit in self.limits:
            if limit not in allowed:
                raise ValueError(f"unknown limit '{limit}'{nearest(limit, allowed)}; limits: {', '.join(allowed)}")


class QualityFilter(_Rules):
    """Drops texts that break a set of published quality rules; each reason is counted."""

    type: Literal["quality-filter"] = "quality-filter"
    rules: list[Literal["gopher", "c4", "fineweb"]] = Field(
        ["gopher"], min_length=1, description="Sets of rules, in this order. `c4` also removes lines."
    )

    @model_validator(mode="after")
    def _known_limits(self) -> Self:
        self._check(list(self.rules))
        return self

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return self._apply(columns, list(self.rules))


class RepetitionFilter(_Rules):
    """Drops texts that repeat their own lines, paragraphs or n-grams too much (Gopher's rules)."""

    type: Literal["repetition-filter"] = "repetition-filter"

    @model_validator(mode="after")
    def _known_limits(self) -> Self:
        self._check(["gopher-repetition"])
        return self

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        return self._apply(columns, ["gopher-repetition"])
