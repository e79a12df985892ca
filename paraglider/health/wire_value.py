"""Values out of JSON, believed only once they are looked at. Each function raises ValueError."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from paraglider.config.model import Address

MAX_SECONDS = 1e6


def as_object(value: object, names: Sequence[str]) -> dict[str, object]:
    """Return an object that has these names and no others."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"expected an object of {', '.join(names)}")
    return value


def as_items(value: object, count: int | None = None) -> list[object]:
    """Return an array, of `count` items if given."""
    if not isinstance(value, list) or count not in (None, len(value)):
        raise ValueError(f"expected an array of {'any' if count is None else count} items")
    return value


def as_ip(value: object) -> Address:
    """Return any address."""
    return ip_address(as_text(value, 64))


def as_text(value: object, max_characters: int) -> str:
    """Return text of ASCII without control characters."""
    if not isinstance(value, str) or len(value) > max_characters:
        raise ValueError(f"expected text of at most {max_characters} characters")
    if not (value.isascii() and value.isprintable()):
        raise ValueError("expected printable ASCII")
    return value


def as_whole(value: object, least: int, most: int) -> int:
    """Return a whole number; true and false are none."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}")
    return value


def as_number(value: object, least: float, most: float) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("expected a number")
    if not least <= value <= most:
        raise ValueError(f"expected a number from {least:g} to {most:g}")
    return float(value)


def as_flag(value: object) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value
