"""Weighted round robin: the order of backends in a cycle that repeats.

Pure arithmetic: weights in, places out. With equal weights it is the order of the file. With others
each backend has as many places as its weight, all the same distance apart before they are rounded
to whole places: weights 5, 1 and 1 give ``A A C A A B A``, and never five in a row to one. So no
backend has more places in a row than its weight divided by that of the second heaviest, rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# A cycle is as long as the weights together, once divided by what divides them all. Longer ones
# than this, or than so many places a backend (up to the last number), are rounded to whole places
# of a cycle that long.
_MOST_PLACES = 2520
_MOST_PLACES_EACH = 50
_MOST_PLACES_IN_ALL = 8000
# The golden section: multiples of it lie evenly in a circle, however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2


def plan_cycle(weights: Sequence[int]) -> list[int]:
    """Return which of the weights (each 1 or more, by its index) has each place of the cycle."""
    if not weights:
        return []
    counts = _count_places(weights)
    if set(counts) <= {1}:
        return list(range(len(counts)))
    # Those of one weight follow one another, so that they are far from each other.
    ranks = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
    offsets = {index: rank * _GOLDEN % 1 for rank, index in enumerate(ranks)}
    return [
        index
        for _, index in sorted(
            ((place + offsets[index]) / count, index)
            for index, count in enumerate(counts)
            for place in range(count)
        )
    ]


def _count_places(weights: Sequence[int]) -> list[int]:
    divisor = math.gcd(*weights)
    total = sum(weights) // divisor
    most = max(_MOST_PLACES, min(_MOST_PLACES_IN_ALL, _MOST_PLACES_EACH * len(weights)))
    if total <= most:
        return [weight // divisor for weight in weights]
    return [max(1, round(weight / divisor * most / total)) for weight in weights]


def find_places(cycle: Sequence[int], index: int) -> tuple[int, int] | None:
    """Return (every, first) where `index` has each `every`-th place from `first` on and no other;
    None where its places are not that even."""
    places = [place for place, found in enumerate(cycle) if found == index]
    every, rest = divmod(len(cycle), len(places))
    if rest or any(place != places[0] + n * every for n, place in enumerate(places)):
        return None
    return every, places[0]
