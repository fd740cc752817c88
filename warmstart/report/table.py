"""The comparison table of a study, in a terminal and in markdown.

One list of cells (`rows`) feeds both and the HTML page, so that they can never disagree. The paper's number
stands under the table with its own setting: it was measured at another scale, and a column would invite a
comparison.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from warmstart.report import numbers
from warmstart.report.results import Arm, Claim, Effect, Paper, Results, Saving
from warmstart.verdict import saving_of
from warmstart.visible import plain

STYLES = {"holds": "bold green", "does not hold": "bold red", "unclear": "bold yellow", "stopped": "bold cyan"}


@dataclass(frozen=True)
class Row:
    """One arm, every cell as text; the verdict is empty for the baseline."""

    arm: str
    final: str
    difference: str
    saving: str
    saving_with_source: str
    flops: str
    tokens: str
    seconds: str
    memory: str
    parameters: str
    verdict: str


def rows(results: Results) -> list[Row]:
    """The table's cells, the baseline first, the other arms in the order of the study."""
    decimals = numbers.metric_decimals([v for arm in results.arms.values() for v in arm.final])
    names = sorted(results.arms, key=lambda name: name != results.baseline)
    found = []
    for name in names:
        arm, effect = results.arms[name], results.effects.get(name)
        found.append(
            Row(
                arm=name,
                final=final(arm, decimals),
                difference=difference(effect, decimals) if effect else numbers.MISSING,
                saving=saving(effect.saving) if effect and results.trained else numbers.MISSING,
                saving_with_source=(
                    saving(effect.saving_with_source) if effect and results.trained else numbers.MISSING
                ),
                flops=numbers.scaled(numbers.mean_of(arm.flops)),
                tokens=numbers.scaled(numbers.mean_of(numbers.per_seed(arm.tokens))),
                seconds=numbers.scaled(numbers.mean_of(numbers.per_seed(arm.seconds))),
                memory=numbers.size(max(numbers.per_seed(arm.peak_memory_bytes), default=None)),
                parameters=numbers.scaled(arm.parameters),
                verdict=effect.verdict if effect else "stopped" if any(arm.stopped) else "",
            )
        )
    return found


def final(arm: Arm, decimals: int) -> str:
    """`3.812 ± 0.021`; of an arm of which runs were stopped only how many were not."""
    if any(arm.stopped):
        return f"finished {sum(stop is None for stop in arm.stopped)} of {len(arm.stopped)}"
    return numbers.mean_and_half(arm.final, decimals)


def difference(effect: Effect, decimals: int) -> str:
    """`−0.213 ± 0.041`."""
    found = effect.difference
    if found.mean is None:
        return numbers.MISSING
    text = numbers.signed(found.mean, decimals)
    return text if found.high is None else f"{text} ± {found.high - found.mean:.{decimals}f}"


def saving(found: Saving) -> str:
    """`41 % [35, 47]`, or how many of the pairs reached the baseline's final metric where not all did."""
    if found.mean is None:
        reached = sum(found.reached)
        return "never reached" if not reached else f"reached {reached} of {len(found.reached)}"
    text = numbers.percent(found.mean)
    if found.low is None or found.high is None:
        return text
    low, high = (numbers.percent(v).removesuffix(" %") for v in (found.low, found.high))
    return f"{text} [{low}, {high}]"


def effect_words(effect: Effect, results: Results) -> str:
    """An arm against the baseline, in a line: `saving 58 % [48, 68] · validation/loss −0.320 ± 0.072`."""
    decimals = numbers.metric_decimals([v for arm in results.arms.values() for v in arm.final])
    change = f"{results.metric} {difference(effect, decimals)}"
    if not results.trained:
        return change
    saved = saving(effect.saving)
    if effect.saving.mean is None:
        saved = "never reached the baseline’s end" if saved.startswith("never") else f"{saved} baseline ends"
    else:
        saved = f"saving {saved}"
    return f"{saved} · {change}"


def claimed_saving(claim: Claim | None) -> float | None:
    """The claim as a share of the compute saved, where it is one (a speed-up is turned into a saving)."""
    if claim is None or claim.value is None:
        return None
    what = claim.what.lower().replace("-", "").replace(" ", "")
    if "speedup" in what:
        return saving_of(claim.value) if claim.value > -1 else None
    return claim.value if "saved" in what or "saving" in what else None


def claim_text(results: Results) -> str:
    """The paper's claim in its own setting, e.g. `47 % training compute saved (GPT_BASE)`."""
    claim = results.claim
    if claim is None:
        return ""
    return f"{claim_number(claim)}{f' ({claim.where})' if claim.where else ''}"


def claim_number(claim: Claim) -> str:
    """What the paper claims and how much of it, e.g. `47 % training compute saved`; its setting is `claim.where`."""
    share = claimed_saving(claim)
    if share is None:
        number = "" if claim.value is None else f"{claim.value:g} "
    elif share == claim.value:
        number = f"{numbers.percent(share, 0 if round(100 * share, 6) % 1 == 0 else 1)} "
    else:
        number = f"{numbers.percent(claim.value, 1)} (a saving of {numbers.percent(share, 1)}) "
    return f"{number}{claim.what}"


def paper_text(paper: Paper | None) -> str:
    """Title, year and arXiv number."""
    if paper is None:
        return ""
    details = [str(paper.year) if paper.year else "", f"arXiv:{paper.arxiv}" if paper.arxiv else ""]
    return ", ".join([paper.title, *(d for d in details if d)])


def scale_text(results: Results) -> str:
    """The setting of our own numbers, in one line."""
    parameters = results.arms.get(results.baseline, next(iter(results.arms.values()))).parameters
    seeds = len(results.seeds)
    pieces = [
        f"scale {results.scale}",
        f"{numbers.scaled(parameters)} parameters" if parameters else "",
        f"{seeds} seed{'s' if seeds > 1 else ''}",
        f"{results.metric}, {results.better} is better",
    ]
    return ", ".join(piece for piece in pieces if piece)


def notes(results: Results) -> list[str]:
    """The lines under the table."""
    kind = "Savings" if results.trained else "Differences"
    lines = [f"Ours: {scale_text(results)}. {kind} are against '{results.baseline}', with their 95 % interval."]
    if results.claim is not None:
        paper = paper_text(results.paper)
        lines.append(f"Paper: {claim_text(results)}{f'. {paper}' if paper else ''}.")
        lines.append("The verdict is about the direction at our scale; it does not reproduce the paper's number.")
    return lines + results.remarks


HEADINGS = ("arm", "final", "difference", "saving", "with source", "FLOPs", "tokens", "seconds", "verdict")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.arm, row.final, row.difference, row.saving, row.saving_with_source,
        row.flops, row.tokens, row.seconds, row.verdict,
    )  # fmt: skip


COMPUTE = ("FLOPs", "tokens", "seconds")
"""Columns that a terminal of fewer than 100 columns goes without: at equal FLOPs they say least."""


def comparison_table(results: Results, width: int = 100) -> Group:
    """The table for a terminal: print it with a `rich.console.Console`.

    Args:
        width: columns of the terminal.
    """
    shown = [number for number, heading in enumerate(HEADINGS) if width >= 100 or heading not in COMPUTE]
    # Names are the user's: `Text` shows them as they are, without reading markup in them.
    table = Table(title=Text(results.title), box=box.SIMPLE_HEAD, padding=(0, 0))
    for heading in (HEADINGS[number] for number in shown):
        if heading == "arm":
            table.add_column(heading, overflow="fold", min_width=7)
        elif heading == "verdict":
            table.add_column(heading, max_width=8)
        else:
            table.add_column(heading, justify="right", overflow="fold")
    for row in rows(results):
        arm, *cells, verdict = (_cells(row)[number] for number in shown)
        table.add_row(Text(arm), *(_tight(cell) for cell in cells), Text(verdict, style=STYLES.get(verdict, "")))
    return Group(table, *(Text(line, style="dim") for line in notes(results)))


def _tight(cell: str) -> Text:
    """A cell without the spaces that nine columns have no room for."""
    cell = re.sub(r"(?<=\d) (?=[kMGTPEZ]$)", "", cell)
    return Text(cell.replace(" ± ", "±").replace(" %", "%").replace(", ", ","))


def comparison_markdown(results: Results) -> str:
    """The table as GitHub markdown, with the lines under it."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(plain(cell) for cell in cells) + " |"

    rule = "|" + "|".join(" --- " if h in ("arm", "verdict") else " ---: " for h in HEADINGS) + "|"
    body = [line(_cells(row)) for row in rows(results)]
    return "\n".join([line(HEADINGS), rule, *body, "", "  \n".join(plain(note) for note in notes(results))]) + "\n"
