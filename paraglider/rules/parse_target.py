"""Parse target: what follows ``-j`` in the text of a rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import NoReturn

from paraglider.config.model import Endpoint, HashKey
from paraglider.config.quote import quoted
from paraglider.rules.names import SET_PATTERN
from paraglider.rules.ruleset import (
    Dnat,
    Forget,
    Hmark,
    Jump,
    Marking,
    Masquerade,
    Remember,
    SetMark,
    Snat,
    Target,
    TcpReset,
    Unreachable,
    Verdict,
    is_own_chain,
)
from paraglider.rules.text import ALL_OF_ADDRESS, UNREACHABLE, render_hmark

_DESTINATION = re.compile(
    r"(?:\[([0-9a-f:.]+)\]|([0-9a-f:]+:[0-9a-f:.]*|[0-9.]+))(?::([0-9]+)(?:-([0-9]+)/([0-9]+))?)?"
)
_SET_MARK = re.compile(r"MARK --set-xmark 0x([0-9a-f]{1,8})/0x([0-9a-f]{1,8})")
_REFUSALS: Mapping[str, Target] = {
    "tcp-reset": TcpReset(),
    **{word: Unreachable(family) for family, word in UNREACHABLE.items()},
}


def parse_target(words: list[str]) -> Target:
    """Return the target that the words say. Raises ValueError."""
    match words:
        case [name]:
            return Jump(name) if is_own_chain(name) else Verdict(name)
        case ["DNAT", "--to-destination", to]:
            return _parse_dnat(to)
        case ["SNAT" | "MASQUERADE", *_]:
            return _parse_source(words)
        case ["REJECT", "--reject-with", what]:
            return _REFUSALS[what] if what in _REFUSALS else refuse(what)
        case ["SET", *options]:
            return _parse_set(options)
    return _parse_marking(words)


def _parse_dnat(text: str) -> Dnat:
    found = _DESTINATION.fullmatch(text)
    if not found:
        raise ValueError(f"not a destination of ours: {text}")
    address = ip_address(found[1] or found[2])
    first, last, base = (parse_number(found[n] or "0") for n in (3, 4, 5))
    return Dnat(Endpoint(address, first, last), base)


def _parse_source(words: list[str]) -> Snat | Masquerade:
    match words:
        case ["SNAT", "--to-source", to, "--random-fully"]:
            return Snat(ip_address(to))
        case ["MASQUERADE", "--random-fully"]:
            return Masquerade()
    raise ValueError(f"not a source of ours: {words}")


def _parse_set(options: list[str]) -> Remember | Forget:
    match options:
        case ["--del-set", name, "src"]:
            return Forget(parse_word(name, SET_PATTERN))
        # Versions of iptables differ in the order of these.
        case ["--add-set", name, "src", "--exist", "--timeout", timeout]:
            return Remember(parse_word(name, SET_PATTERN), parse_number(timeout))
        case ["--add-set", name, "src", "--timeout", timeout, "--exist"]:
            return Remember(parse_word(name, SET_PATTERN), parse_number(timeout))
    raise ValueError(f"not a set of ours: {options}")


def _parse_marking(words: list[str]) -> Hmark | Marking | SetMark:
    if words[:1] != ["HMARK"]:
        return _parse_mark(" ".join(words))
    words = words[1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    number, offset = options.get("--hmark-mod", ""), options.get("--hmark-offset", "0")
    bits, with_port = options.get("--hmark-src-prefix"), "--hmark-sport-mask" in options
    target = Hmark(
        next(family for family, all_bits in ALL_OF_ADDRESS.items() if all_bits == bits),
        HashKey.SOURCE_PORT if with_port else HashKey.SOURCE,
        parse_number(number),
        parse_number(offset),
    )
    if sorted(render_hmark(target).split(" ")) != sorted(words):
        raise ValueError(f"not as we mark: {words}")
    return target


def _parse_mark(text: str) -> Marking | SetMark:
    found = _SET_MARK.fullmatch(text)
    if not found or text == Marking.CLEAR:
        return Marking(text)  # or a ValueError
    return SetMark(int(found[1], 16), int(found[2], 16))


def parse_number(text: str) -> int:
    """Return a number as iptables prints it. Raises ValueError."""
    # At most the digits of 2**31: int() of a longer text is work for nothing.
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError(f"not a number: {quoted(text)}")
    return int(text)


def parse_word(text: str, pattern: str) -> str:
    """Return a word that `pattern` allows. Raises ValueError."""
    return text if re.fullmatch(pattern, text) else refuse(text)


def refuse(text: str) -> NoReturn:
    """Raise ValueError."""
    raise ValueError(f"not a word of ours: {quoted(text)}")
