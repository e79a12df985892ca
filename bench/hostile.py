"""Configuration files made to cost much, and large ones that are meant.

Owns their text and nothing else: no file is written here and none is read. All but one are within
the limit of 4 MiB, as what is larger is refused before anybody looks into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from string import ascii_lowercase

MIB = 1 << 20
LIMIT_BYTES = 4 * MIB
FRONTENDS = 10_000
BACKENDS = 69_000
EACH, EACH_BACKENDS = 1_000, 100

# A frontend that lacks nothing, so that what is added to it is all that is wrong.
_REST = """
  bind: 192.0.2.1:1
  privateip: 192.0.2.1
  backends: [192.0.2.2:1]
"""


def _fill(start: str, part: str, end: str = "") -> bytes:
    """Return `start`, then `part` as often as it fits into the limit, then `end`."""
    room = LIMIT_BYTES - len(start.encode()) - len(end.encode())
    return (start + part * (room // len(part.encode())) + end).encode()


def _billion_laughs() -> bytes:
    """Each line names the one above nine times."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(ascii_lowercase)]
    return "\n".join(lines).encode()


def _merge_bomb() -> bytes:
    """Each line merges the one above nine times."""
    lines = ["a: &a {k: v}"]
    for a, b in pairwise(ascii_lowercase[:9]):
        lines.append(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}")
    return "\n".join(lines).encode()


def _deep_block() -> bytes:
    """Each line is the only key of the one above."""
    return b"frontend:\n" + b"".join(b" " * depth + b"a:\n" for depth in range(1, 1400))


def _unknown_keys() -> bytes:
    return b"frontend: {" + b", ".join(b"key%d: x" % number for number in range(70_000)) + b"}"


# Each is to be refused, quickly and in little memory. Functions, for there is one text at a time.
HOSTILE: Mapping[str, Callable[[], bytes]] = {
    "billion laughs": _billion_laughs,
    "merge bomb": _merge_bomb,
    "50,000 brackets": lambda: b"[" * 50_000,
    "1,000,000 brackets": lambda: b"frontend: " + b"[" * 1_000_000,
    "deep flow, both kinds": lambda: _fill("", "[{a: "),
    "deep block of keys": _deep_block,
    "deep block of items": lambda: _fill("frontends:\n", "- "),
    "commas": lambda: _fill("", ","),
    "list for a mapping": lambda: _fill("frontend: [", "a,", "]"),
    "unknown keys": _unknown_keys,
    "huge key": lambda: _fill(f"frontend:{_REST}  ? ", "a", "\n  : b\n"),
    "huge value": lambda: _fill(f"frontend:{_REST}  name: '", "\N{GRINNING FACE}", "'\n"),
    "%TAG lines": lambda: b"".join(b"%%TAG !a%d! x\n" % number for number in range(50_000)),
    "anchors": lambda: _fill("", "&a "),
    "bare IPv6 brackets": lambda: _fill("frontend: {backends: [", "[::1]:80,", "]}"),
    "open quote": lambda: _fill("frontend: '", "x"),
    "newlines": lambda: _fill("", "\n"),
    "NUL": lambda: _fill("", "\0"),
    "not UTF-8 at the end": lambda: _fill("# ", "x")[:-1] + b"\xff",
    "over the limit": lambda: b"[" * (2 * LIMIT_BYTES),
}


def valid_frontends() -> bytes:
    """Return a file of `FRONTENDS` frontends, each with a bind and a backend of its own."""
    lines = ["frontends:"]
    for number in range(FRONTENDS):
        host = f"{number >> 8}.{number & 255}"
        lines += [
            f"- name: f{number}",
            f"  bind: 10.0.{host}:80",
            "  privateip: 10.1.0.1",
            f"  backends: [10.2.{host}:80]",
        ]
    return "\n".join([*lines, ""]).encode()


def valid_backends() -> bytes:
    """Return a file of one frontend with `BACKENDS` backends."""
    numbers = range(257, 257 + BACKENDS)
    backends = ",".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:1" for n in numbers)
    start = "frontend: {bind: 192.0.2.1:1, privateip: 192.0.2.1, backends: ["
    return f"{start}{backends}]}}\n".encode()


def valid_both() -> bytes:
    """Return a file of `EACH` frontends of `EACH_BACKENDS` backends, as a program writes it."""
    lines = ["frontends:"]
    for number in range(EACH):
        host = f"{number >> 8}.{number & 255}"
        lines += [f"  - name: f{number}", f"    bind: 10.0.{host}:80", "    privateip: 10.1.0.1"]
        lines.append("    backends:")
        lines += [f"      - 10.{100 + at}.{host}:8080" for at in range(EACH_BACKENDS)]
    return "\n".join([*lines, ""]).encode()


# These cost what their size costs: all of each is right, or all but its last line.
LARGE: Mapping[str, Callable[[], bytes]] = {
    f"{FRONTENDS:,} frontends, valid": valid_frontends,
    f"{FRONTENDS:,} frontends, last line wrong": lambda: valid_frontends() + b"@\n",
    f"{EACH:,} frontends of {EACH_BACKENDS}, valid": valid_both,
    f"{BACKENDS:,} backends, valid": valid_backends,
    f"{BACKENDS:,} backends, last line wrong": lambda: valid_backends() + b"@\n",
}
