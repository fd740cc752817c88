"""Text of unknown origin, made safe to print: no control character of a name or a file reaches a terminal.

A file can hold what a terminal obeys: `ESC [` moves the cursor and overwrites what stands there, `ESC ]` sets the
window's title, a carriage return hides the line's beginning, and the marks of writing direction show text in another
order than it has. They are shown as the signs that Unicode has for them (`␛`), so that a reader sees that they are
there.
"""

from __future__ import annotations

LONGEST = 2_000
"""Characters of a line: a name of a megabyte is not read by anybody."""

_SIGNS: dict[int, str] = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "\u2421"}
    | dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029], "\ufffd")
    | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
)


def visible(text: str) -> str:
    """The text with a sign in the place of each control character and half character; line breaks and tabs stay."""
    return text if text.isascii() and text.isprintable() else text.translate(_SIGNS)


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text as one visible line of at most `longest` characters."""
    if len(text) > longest:
        text = text[: longest // 2] + " ... " + text[-(longest // 2) :]
    return visible(text.replace("\r\n", " ").replace("\n", " "))


def plain(text: str) -> str:
    """Text that markdown shows as it is."""
    for character in "\\`*_|[]<":
        text = text.replace(character, "&lt;" if character == "<" else "\\" + character)
    return text.replace("\n", " ")
