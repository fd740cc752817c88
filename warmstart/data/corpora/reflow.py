"""Texts that were broken into lines for a terminal, as paragraphs again."""

from __future__ import annotations

import re


def paragraphs(text: str) -> str:
    """Blank lines end a paragraph; its lines are joined by one space, their indentation goes."""
    blocks = re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.strip())
    return "\n\n".join(" ".join(block.split()) for block in blocks if block.strip())
