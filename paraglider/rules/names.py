"""Names: what the chains and sets of one frontend are called.

A frontend's name is in lower case, so that the first upper case letter ends it: no name of one can
be one of another. iptables has room for 28 characters, of which the prefix takes 11 and a
frontend's name up to 15; for sets the kernel has 31.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from itertools import product
from string import ascii_letters, ascii_uppercase, digits

from paraglider.config.model import NAME_PATTERN
from paraglider.rules.ruleset import PREFIX, own_chain

_ALPHABET = ascii_letters + digits
_LONGEST, _SHORT, _HASHED = 15, 10, 6
_SET_HASHED = 5
SET_PATTERN = rf"{PREFIX}{NAME_PATTERN}[A-Z][A-Za-z0-9]{{{_SET_HASHED - 1}}}"
# The frontend's part of the name of any of its chains, short or whole.
_SHORTENED = rf"[a-z0-9_-]{{{_SHORT - _HASHED}}}[A-Z][A-Za-z0-9]{{{_HASHED - 1}}}(?=[A-Z])"
_OF_FRONTEND = re.compile(rf"{PREFIX}(?:{_SHORTENED}|[a-z0-9_-]+)")


def node_names(name: str, letters: str) -> Iterator[str]:
    """Yield names for chains of the frontend `name`: one of `letters` and one or two characters
    behind its own."""
    for length, begin in ((1, name), (2, name if len(name) < _LONGEST else short_name(name))):
        for letter, *others in product(letters, *[_ALPHABET] * length):
            yield own_chain(f"{begin}{letter}{''.join(others)}")


def short_name(name: str) -> str:
    """Return what stands for a frontend's name where seven characters have to have room behind it:
    of a long one, the end is a hash."""
    if len(name) <= _SHORT:
        return name
    return name[: _SHORT - _HASHED] + _hash_letters(name, _HASHED)


def set_name(name: str, what: str) -> str:
    """Return the name of the set of `what` of the frontend `name`. By chance two backends of a
    thousand may share one: their clients then return to the first of the two."""
    return f"{PREFIX}{name}{_hash_letters(what, _SET_HASHED)}"


def owner_of(chain: str) -> str:
    """Return what all chains of one frontend's backends have in common, or the chain."""
    found = _OF_FRONTEND.match(chain)
    return found[0] if found else chain


def _hash_letters(text: str, length: int) -> str:
    """Return so many letters and digits, the first in upper case, that follow from `text`."""
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    number, first = divmod(number, len(ascii_uppercase))
    found = ascii_uppercase[first]
    while len(found) < length:
        number, next_ = divmod(number, len(_ALPHABET))
        found += _ALPHABET[next_]
    return found
