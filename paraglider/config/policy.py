"""How a frontend chooses among its backends, and what it does when they go down and come back.

Sample input, the keys of a frontend beside its backends::

    balance: random
    on_down: keep
    no_backend: serve-all
    quorum: {live: 2, hysteresis: 1}
    slow_start: 30s
    affinity: 3h
    resolve: 10s
    hold: 1m
    return_path: plain
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paraglider.config.document import Document, Kind
from paraglider.config.duration import parse_duration
from paraglider.config.keys import FRONTEND_KEYS, QUORUM_KEYS
from paraglider.config.mapping import read_keys
from paraglider.config.model import Balance, HashKey, NoBackend, OnDown, Quorum, ReturnPath
from paraglider.config.problems import Place, Problems
from paraglider.config.value import parse_whole, parse_word, read_value

MAX_LIVE = 10_000
MAX_WEIGHT = 1000
# Bounds in seconds.
SLOW_START_S = (0.0, 3600.0)
RESOLVE_S = (1.0, 3600.0)
HOLD_S = (0.0, 86400.0)
AFFINITY_S = (0.0, 24 * 86400.0)  # the kernel reckons in milliseconds, of 31 bits

BALANCE = {word.value: word for word in Balance}
HASH_KEY = {word.value: word for word in HashKey}
ON_DOWN = {word.value: word for word in OnDown}
NO_BACKEND = {word.value: word for word in NoBackend}
RETURN_PATH = {word.value: word for word in ReturnPath}

# Key -> its field in Frontend, and how its text is read (which may raise Refused).
_KEYS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "balance": ("balance", lambda text: parse_word(text, BALANCE)),
    "hash_key": ("hash_key", lambda text: parse_word(text, HASH_KEY)),
    "on_down": ("on_down", lambda text: parse_word(text, ON_DOWN)),
    "no_backend": ("no_backend", lambda text: parse_word(text, NO_BACKEND)),
    "slow_start": ("slow_start_s", lambda text: parse_duration(text, *SLOW_START_S)),
    "affinity": ("affinity_s", lambda text: parse_duration(text, *AFFINITY_S)),
    "return_path": ("return_path", lambda text: parse_word(text, RETURN_PATH)),
    "resolve": ("resolve_s", lambda text: parse_duration(text, *RESOLVE_S)),
    "hold": ("hold_s", lambda text: parse_duration(text, *HOLD_S)),
}


def read_policy(document: Document, problems: Problems, key: str, place: Place) -> dict[str, Any]:
    """Read the value of a key other than `quorum`; return it by its field in Frontend."""
    field, parse = _KEYS[key]
    value = read_value(document, problems, place, FRONTEND_KEYS[key], parse)
    return {} if value is None else {field: value}


def read_quorum(
    document: Document, problems: Problems, place: Place
) -> tuple[Quorum, Place] | None:
    """Read a number, or a mapping with the hysteresis; None once a problem with it is told."""
    if document.kind is not Kind.MAPPING:
        live = read_value(document, problems, place, FRONTEND_KEYS["quorum"], _parse_live)
        return None if live is None else (Quorum(live), place)
    found: dict[str, tuple[int, Place]] = {}
    keys = read_keys(document, problems, place.key_path, known=QUORUM_KEYS, required=("live",))
    for key, _ in keys:
        at = document.place(f"{place.key_path}.{key}")
        parse = _parse_live if key == "live" else _parse_hysteresis
        number = read_value(document, problems, at, QUORUM_KEYS[key], parse)
        if number is not None:
            found[key] = number, at
    if "live" not in found:
        return None
    live, live_at = found["live"]
    hysteresis, at = found.get("hysteresis", (0, place))
    if hysteresis >= live:
        problems.add(
            at,
            f"a hysteresis of {hysteresis} is not smaller than the number it is taken from, {live}:"
            f" {live_at}; write a smaller one",
        )
        return None
    return Quorum(live, hysteresis), place


def _parse_live(text: str) -> int:
    return parse_whole(text, 1, MAX_LIVE)


def _parse_hysteresis(text: str) -> int:
    return parse_whole(text, 0, MAX_LIVE - 1)
