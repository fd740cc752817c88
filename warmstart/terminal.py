"""The console that every command prints to: rich's, deaf to what a file would have a terminal do.

rich writes its own escape sequences beside the text, never inside of it. So every control character that is still in
the text when it is laid out came from a name or a file, and one place is enough to make all of them visible.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from warmstart.visible import visible


class Terminal(Console):
    """A console whose text is only text. Markup is still read where the caller asks for it."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
