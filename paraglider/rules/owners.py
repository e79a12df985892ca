"""Owners: which backend each part of all clients goes to, so that few ever move.

Clients are dealt to slots by a hash of their address (slots.py), slots to backends here. Pure: from
backends, weights and who serves alone, so that two appliances with one file agree.

Every backend has a rank in every slot, from a hash of its address. While all serve, slots are given
out from the best rank to the worst, to each backend as many as its weight says. A slot whose owner
does not serve goes to the best of those who do, and back when it serves again; no other slot moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import shake_256
from struct import unpack

from paraglider.config.model import Endpoint
from paraglider.health.service import Share

# So many that a hundred backends have equal numbers of them but for 3 %, and that one more or less
# moves its share and 3 % of all. With another number everybody would move: it changes but once.
_SLOTS = 2048
_ENOUGH_FOR = 102
_MOST_SLOTS = 8192

_INDEX_BITS, _SLOT_BITS = 12, 20


def plan_owners(home: Sequence[Share], serving: Sequence[Share]) -> list[Endpoint]:
    """Return the owner of each slot. `home` are those whom slots are given out to, in any order,
    `serving` those of them who get connections (one or more)."""
    known = tuple(sorted((str(share.backend), share.weight) for share in home))
    endpoints = {str(share.backend): share.backend for share in (*home, *serving)}
    able = {str(share.backend): share.weight for share in serving}
    owners = list(_give_out(known or tuple(able.items())))
    ranks = None
    for slot, owner in enumerate(owners):
        if owner not in able:
            ranks = ranks or {backend: _ranks(backend, len(owners)) for backend in sorted(able)}
            owners[slot] = min(ranks, key=lambda b: (ranks[b][slot] // able[b], b))
    return [endpoints[owner] for owner in owners]


def count_slots(backends: int) -> int:
    """Return how many slots so many backends have: a power of two."""
    return _SLOTS if backends <= _ENOUGH_FOR else _MOST_SLOTS


@lru_cache(maxsize=256)
def _give_out(known: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    size = count_slots(len(known))
    left = _count_each([weight for _, weight in known], size)
    # One number for each rank, slot and backend, in that order of weight: such lists sort fast.
    claims = [
        (rank // weight << _SLOT_BITS | slot) << _INDEX_BITS | index
        for index, (backend, weight) in enumerate(known)
        for slot, rank in enumerate(_ranks(backend, size))
    ]
    owners: dict[int, str] = {}
    for claim in sorted(claims):
        index, slot = claim % (1 << _INDEX_BITS), claim >> _INDEX_BITS & ((1 << _SLOT_BITS) - 1)
        if left[index] and slot not in owners:
            owners[slot] = known[index][0]
            left[index] -= 1
    return tuple(owners[slot] for slot in range(size))


def _count_each(weights: Sequence[int], size: int) -> list[int]:
    """Return how many of `size` slots each gets; those with the largest rest get one more."""
    total = sum(weights)
    counts = [size * weight // total for weight in weights]
    by_rest = sorted(range(len(weights)), key=lambda n: (-(size * weights[n] % total), n))
    for index in by_rest[: size - sum(counts)]:
        counts[index] += 1
    return counts


def _ranks(backend: str, size: int) -> tuple[int, ...]:
    """Return a number for each slot; the smallest is the best."""
    return unpack(f">{size}I", shake_256(backend.encode()).digest(4 * size))
