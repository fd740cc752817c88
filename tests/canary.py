"""Sees whether anything was run, connected to or unpickled while hostile input was read; runs fuzzers for some time.

Python tells an audit hook of every process, connection and class looked up by a pickle. A hook cannot be taken away
again, so there is one, which listens only while it is armed.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from warmstart.errors import UserError

FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen",
    "pickle.find_class", "socket.connect", "socket.sendto", "urllib.Request", "webbrowser.open", "ftplib.connect",
    "smtplib.connect",
    "marshal.loads",
}  # fmt: skip
SLOWEST = 30.0
"""Seconds of the processor that one hostile input may take."""

_armed: list[list[str]] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed:
        return
    if event in FORBIDDEN:
        if event == "marshal.loads" and "importlib" in sys._getframe(1).f_code.co_filename:
            return  # the compiled form of a module of ours
        _armed[-1].append(f"{event} {arguments!r:.200}")
    elif event == "exec" and "transformers_modules" in str(getattr(arguments[0], "co_filename", "")):
        _armed[-1].append(f"exec {arguments!r:.200}")


sys.addaudithook(_listen)


@contextmanager
def nothing_run() -> Iterator[None]:
    """Fails where the block starts a process, connects to anything, or looks up a class for a pickle."""
    seen: list[str] = []
    _armed.append(seen)
    try:
        yield
    finally:
        _armed.pop()
    assert not seen, seen


@contextmanager
def little_memory(more: int = 2**30) -> Iterator[None]:
    """No more than so many bytes beside what the process has: a bomb ends with a MemoryError and fails the test."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused_or_fine(call: Callable[[], Any]) -> str | None:
    """Makes a call that may do its work or refuse it, and nothing else.

    Returns:
        The message of the refusal; None where it worked.
    """
    start = time.process_time()
    message = None
    with nothing_run():
        try:
            call()
        except UserError as error:
            message = str(error)
    assert time.process_time() - start < SLOWEST
    if message is not None:
        assert message
        assert not [sign for sign in message if obeyed(sign)], repr(message)
        assert len(message) <= 21 * 2100
    return message


def obeyed(sign: str) -> bool:
    """Whether a terminal could do something else than show this character."""
    if sign in "\n\t":
        return False
    return (
        unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")
        or sign in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def fuzz(check: Callable[[Any], None], inputs: st.SearchStrategy[Any], examples: int = 40) -> None:
    """Runs a check on generated inputs: always the same `examples`, or new ones for `WARMSTART_FUZZ_SECONDS`."""
    seconds = float(os.environ.get("WARMSTART_FUZZ_SECONDS", "0"))
    end, rounds = time.monotonic() + seconds, 0
    while not rounds or time.monotonic() < end:

        def one(found: Any) -> None:
            check(found)

        number = time.time_ns() if seconds else 0
        run = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
            seed(number)(given(inputs)(one))
        )
        run()
        rounds += 1
    if seconds:
        print(f"{check.__qualname__}: {rounds * examples:,} inputs in {seconds:.0f} s")


def changed_bytes(original: bytes, most: int = 6) -> st.SearchStrategy[bytes]:
    """The original with some bytes replaced, taken out, put in, repeated or cut off."""
    place = st.integers(0, max(len(original) - 1, 0))
    change = st.tuples(
        st.sampled_from(["set", "delete", "insert", "repeat", "cut", "big"]), place, st.binary(min_size=1, max_size=8)
    )

    def apply(changes: list[tuple[str, int, bytes]]) -> bytes:
        result = bytearray(original)
        for kind, at, some in changes:
            if kind == "set":
                result[at : at + len(some)] = some
            elif kind == "delete":
                del result[at : at + len(some)]
            elif kind == "insert":
                result[at:at] = some
            elif kind == "repeat":
                result[at:at] = result[at : at + 40] * 3
            elif kind == "cut":
                del result[max(at, 1) :]
            else:
                result[at : at + 8] = b"\xff" * 8
        return bytes(result)

    return st.lists(change, min_size=1, max_size=most).map(apply)


EVIL_TEXT = st.sampled_from(
    [
        "", "\0", "\x1b[31m", "\x1b]0;title\x07", "../../../etc/passwd", "/dev/zero", "~nobody/x", "x" * 5000,
        "a\nerror: b", "\ud800", "[red]", "[/]", "<script>alert(1)</script>", "</script>", "{{7*7}}", "%s%n",
        "${HOME}", "`id`", "$(id)",
        "!!python/object:os.system", "con", "NaN", ".inf", "-0", "1e999", "0x" + "f" * 6000, "9" * 5000, "٣", "²",
        "--5", "*", "*.*", "a.b.c",
        "\u202e", "\u2028", "é" * 100,
        "packaged:", "packaged:x", "cache://../x", "hub/name", "stage", "#1+1", "https://localhost:1/x",
    ]
) | st.text(max_size=20)  # fmt: skip
EVIL_NUMBER = st.sampled_from(
    [
        0,
        -1,
        1,
        2,
        7,
        10**9,
        2**31,
        2**63,
        2**64 - 1,
        -(2**63),
        0.0,
        -0.0,
        1e-320,
        1e308,
        float("inf"),
        float("nan"),
        0.5,
    ]
)
EVIL_VALUE = st.recursive(
    st.none() | st.booleans() | EVIL_NUMBER | EVIL_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(EVIL_TEXT, inner, max_size=3),
    max_leaves=6,
)


def changed_values(original: Any, most: int = 3) -> st.SearchStrategy[Any]:
    """A nested value with some of its values replaced, taken out, repeated or put elsewhere."""
    places = list(_places(original, ()))

    def apply(changes: list[tuple[str, tuple[Any, ...], Any, tuple[Any, ...]]]) -> Any:
        import copy

        result = copy.deepcopy(original)
        for kind, place, value, other in changes:
            try:
                result = _changed(result, kind, place, value, copy.deepcopy(_at(original, other)))
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took the place away
        return result

    kinds = st.sampled_from(["set", "set", "set", "delete", "move", "rename", "more"])
    change = st.tuples(kinds, st.sampled_from(places), EVIL_VALUE, st.sampled_from(places))
    return st.lists(change, min_size=1, max_size=most).map(apply)


def _places(value: Any, steps: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield steps
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*steps, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _places(inner, (*steps, number))


def _at(value: Any, steps: tuple[Any, ...]) -> Any:
    for step in steps:
        value = value[step]
    return value


def _changed(root: Any, kind: str, place: tuple[Any, ...], value: Any, other: Any) -> Any:
    if not place:
        return value if kind == "set" else root
    holder, key = _at(root, place[:-1]), place[-1]
    if kind == "set":
        holder[key] = value
    elif kind == "delete":
        del holder[key]
    elif kind == "move":
        holder[key] = other
    elif kind == "rename" and isinstance(holder, dict):
        holder[value if isinstance(value, str) else str(value)] = holder.pop(key)
    elif kind == "more" and isinstance(holder, list):
        holder.extend([holder[key]] * 20)
    return root
