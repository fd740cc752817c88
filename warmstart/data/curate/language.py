"""Find each text's language and keep some of them.

Naive Bayes over byte n-grams (py3langid): 140 languages, its model of 4.6 MB inside the package, so that nothing is
downloaded. The trade-off was measured (docs/curation.md): a slower library that takes 1.2 GB was right about 98 % of
the paragraphs of 63 languages, this one about 95 %; the errors are near relatives (Croatian and Bosnian, Indonesian and
Malay) and languages it does not know (Maori, Tswana). Naming the candidates (`among`) makes it surer.

Lui and Baldwin, "langid.py: An Off-the-shelf Language Identification Tool" (2012).
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, Literal

from pydantic import Field

from warmstart.data.curate import Curation
from warmstart.data.steps import Columns, Counted, column, kept
from warmstart.errors import RecipeError, UserError, nearest


@cache
def _model() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError("language needs py3langid: pip install 'warmstart[data]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _identifier(among: tuple[str, ...]) -> Any:
    known = [str(label) for label in _model().labels]
    for language in among:
        if language not in known:
            raise RecipeError(f"language: unknown '{language}'{nearest(language, known)}; known: {', '.join(known)}")
    found = copy.copy(_model())
    found.set_languages(list(among) or None)
    return found


def language_of(text: str, among: tuple[str, ...] = ()) -> tuple[str, float]:
    """The likeliest language (ISO 639-1, e.g. `en`) and its probability among the candidates.

    Args:
        among: the candidates; default: all that are known.

    Raises:
        UserError: py3langid is not installed, or an unknown language.
    """
    language, probability = _identifier(among).classify(text)
    return str(language), float(probability)


class Language(Curation):
    """Writes each text's language into the column `language`, and keeps those of `keep`."""

    type: Literal["language"] = "language"
    keep: list[str] = Field(default_factory=list, description="ISO 639-1 codes, e.g. `[en, de]`; default: all.")
    among: list[str] = Field(default_factory=list, description="Languages that can occur; default: all that are known.")
    minimum: float = Field(0.0, ge=0, le=1, description="Drop texts whose language is less probable than this.")
    characters: int = Field(1000, ge=20, description="Looks at no more than these first characters.")

    def apply(self, columns: Columns, fitted: Any = None) -> Columns:
        _identifier(tuple(self.keep))  # whether it knows them; a wrong name would drop every row
        found = [language_of(text[: self.characters], tuple(self.among)) for text in column(columns, "text")]
        right = [not self.keep or language in self.keep for language, _ in found]
        sure = [probability >= self.minimum for _, probability in found]
        changed = {**columns, "language": [language for language, _ in found]}
        counts = {
            "other_language": right.count(False),
            "unsure": sum(one and not two for one, two in zip(right, sure, strict=True)),
        }
        return Counted(kept(changed, [one and two for one, two in zip(right, sure, strict=True)]), counts)
