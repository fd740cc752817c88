"""What the catalog shows of every system: the paper's claim in its own setting, and beside it our verdict in ours.

One list of `Entry` feeds the docs page (`gallery_markdown.py`), the HTML page (`gallery_html.py`) and the terminal
(`gallery_terminal.py`), so that they can never disagree. All of it comes from the study files and the committed
results.

The verdict of a system is that of one arm, which the study names beforehand as the paper's method (`claim.arm`):
picking the best of several arms afterwards would find a winner among any. The other arms' verdicts stand beside it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from warmstart.catalog import System, systems
from warmstart.errors import RecipeError
from warmstart.report import table
from warmstart.report.results import Claim, Paper, Results
from warmstart.yours import Yours, command

NOT_RUN = "not run yet"
SIGNS = {"holds": "✓", "does not hold": "✕", "unclear": "?", NOT_RUN: "·"}
"""The possible verdicts, each with a sign that says the same without colour."""

MEANING = (
    "A verdict is about the direction of the paper’s claim (better results from the same compute, or better rows) at "
    "the scale of our own runs, by 95 % intervals over seeds. It does not reproduce the paper’s number, which was "
    "measured in the setting that stands beside it."
)
LEGEND = {
    "holds": "better than the baseline at equal compute, with a saving above zero, both by their intervals",
    "does not hold": "worse than the baseline by its interval",
    "unclear": "these seeds cannot tell",
    NOT_RUN: "the study is there, its results at laptop scale are not",
}
OWN = (
    "MODEL is a model folder or hub id, DATA a file, a glob, or a data set’s hub id, WIDTH that of a larger model. "
    "Budget and learning rates stay those of the scale, which fit models of a million weights; for larger ones set "
    "compare.flops (about 6 × weights × tokens) and the learning rates (shared.train.learning_rate, and those that "
    "arms have of their own; a number, or probe). “warmstart check” with the same words says what would be done."
)


@dataclass(frozen=True)
class Entry:
    """One system with what our own runs of its study say."""

    system: System
    paper: Paper | None
    claim: Claim | None
    yours: Yours | None
    results: Results | None

    @property
    def slug(self) -> str:
        return self.system.slug

    @property
    def own_arm(self) -> str | None:
        """The arm that is the paper's method."""
        return self.claim.arm if self.claim is not None else None

    @property
    def verdict(self) -> str:
        """`holds`, `does not hold`, `unclear` or `not run yet`: of the paper's arm; where the study names none, of all
        arms if they agree."""
        if self.results is None or not self.results.effects:
            return NOT_RUN
        if self.own_arm is not None:
            effect = self.results.effects.get(self.own_arm)
            return effect.verdict if effect is not None else NOT_RUN
        found = {effect.verdict for effect in self.results.effects.values()}
        return found.pop() if len(found) == 1 else "unclear"

    @property
    def claimed(self) -> str:
        """The paper's claim without its setting."""
        return table.claim_number(self.claim) if self.claim is not None else ""

    @property
    def claimed_where(self) -> str:
        """The setting of the paper's number."""
        return self.claim.where if self.claim is not None else ""

    @property
    def measured(self) -> str:
        """What the paper's arm did in our runs, e.g. `saving 50 % [40, 59] · validation/loss −0.354 ± 0.039`."""
        if self.results is None or self.own_arm is None or self.own_arm not in self.results.effects:
            return ""
        effect = self.results.effects[self.own_arm]
        own, baseline = (self.results.arms[name].reused_flops for name in (self.own_arm, self.results.baseline))
        reused = any(own) and own != baseline
        source = f" · with what the source cost: {table.saving(effect.saving_with_source)}" if reused else ""
        return table.effect_words(effect, self.results) + source

    @property
    def measured_where(self) -> str:
        """The setting of our own numbers."""
        if self.results is None:
            return ""
        return f"{table.scale_text(self.results)}; against {self.results.baseline}"

    @property
    def others(self) -> list[tuple[str, str]]:
        """(arm, verdict) of the arms beside the paper's own."""
        effects = self.results.effects if self.results is not None else {}
        return [(name, effect.verdict) for name, effect in effects.items() if name != self.own_arm]

    @property
    def paper_text(self) -> str:
        """Title, year and arXiv number."""
        return table.paper_text(self.paper)

    @property
    def paper_link(self) -> str:
        """Where the paper is; empty where the study does not say."""
        if self.paper is None:
            return ""
        link = self.paper.url or (f"https://arxiv.org/abs/{self.paper.arxiv}" if self.paper.arxiv else "")
        return link if link.startswith(("https://", "http://")) else ""

    @property
    def run(self) -> str:
        """The command that runs the study as it is."""
        return f"warmstart study {shlex.quote(self.slug)}"

    @property
    def run_on_yours(self) -> str:
        """The command that runs it on the user's own model and data; empty where it takes none."""
        return command(self.slug, self.yours)

    @property
    def takes(self) -> list[tuple[str, str]]:
        """(what, in which sense) of the user's own that the study takes."""
        if self.yours is None:
            return []
        given = (("MODEL", self.yours.model), ("DATA", self.yours.data))
        return [(name, what.says) for name, what in given if what is not None]


def entries(among: Sequence[System] | None = None) -> list[Entry]:
    """The entries of systems, by default of all.

    Raises:
        RecipeError: a study's header is not well formed.
        DataError: committed results cannot be read.
    """
    return [entry(system) for system in (systems() if among is None else among)]


def entry(system: System) -> Entry:
    """The entry of one system."""
    try:
        return Entry(
            system=system,
            paper=Paper.model_validate(system.paper) if system.paper else None,
            claim=Claim.model_validate(system.claim) if system.claim else None,
            yours=Yours.model_validate(system.yours) if system.yours else None,
            results=Results.load(system.results) if system.results is not None else None,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"{system.file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def as_json(found: Entry) -> dict[str, Any]:
    """An entry for scripts."""
    system, results = found.system, found.results
    return {
        "slug": system.slug,
        "family": system.family,
        "modality": system.modality,
        "title": system.title,
        "idea": system.idea,
        "paper": found.paper.model_dump(mode="json") if found.paper is not None else None,
        "claim": found.claim.model_dump(mode="json") if found.claim is not None else None,
        "verdict": found.verdict,
        "measured": found.measured or None,
        "measured_where": found.measured_where or None,
        "arms": {name: effect.verdict for name, effect in results.effects.items()} if results is not None else {},
        "command": found.run,
        "command_on_yours": found.run_on_yours or None,
        "study": str(system.file),
        "results": str(system.results) if system.results is not None else None,
    }
