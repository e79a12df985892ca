"""What the samples mean: figures of one turn, and how they compare within each round.

A round has one turn of each subject. What a subject adds, and its ratio to another one's, are taken
within the round, and only then is the median taken: what slows the machine down for a while slows
all of a round. (But for `added_ratio`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.compare.load import Sample
from bench.compare.subjects import CONNTRACK, ROUTED
from bench.markdown import Spread, spread_of


@dataclass(frozen=True, slots=True)
class BriefTurn:
    """One subject, as briefly as it can be. `forget_s` is what conntrack takes to forget a
    connection."""

    connect: Sample
    bulk: Sample
    forget_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """One subject in one round."""

    connect: Sample
    requests: Sample
    bulk: Sample
    forget_s: float


Figure = Callable[[Turn], float]
Round = Mapping[str, Turn]


def connections_per_s(turn: Turn) -> float:
    """New connections a second."""
    return turn.connect.operations / turn.connect.seconds


def connection_us(turn: Turn) -> float:
    """Processor time that a connection takes, both its ends and its being forgotten included."""
    return 1e6 * (turn.connect.busy_s / turn.connect.operations + turn.forget_s)


def requests_per_s(turn: Turn) -> float:
    """Round trips a second on connections that stay."""
    return turn.requests.operations / turn.requests.seconds


def p50_us(turn: Turn) -> float:
    """Half of the round trips took no longer."""
    return turn.requests.p50_us


def p99_us(turn: Turn) -> float:
    """All but one of a hundred round trips took no longer."""
    return turn.requests.p99_us


def gbit_per_s(turn: Turn) -> float:
    """Gbit of payload a second."""
    return 8 * turn.bulk.bytes / turn.bulk.seconds / 1e9


def gigabyte_ms(turn: Turn) -> float:
    """Processor time that 10^9 bytes take, both ends included."""
    return 1e3 * turn.bulk.busy_s / (turn.bulk.bytes / 1e9)


def each(rounds: Sequence[Round], subject: str, figure: Figure) -> list[float]:
    """Return a figure in each round."""
    return [figure(found[subject]) for found in rounds]


def added(rounds: Sequence[Round], subject: str, figure: Figure) -> list[float]:
    """Return what a subject adds to the routed path's figure, in each round."""
    return [figure(found[subject]) - figure(found[ROUTED]) for found in rounds]


def ratio(rounds: Sequence[Round], subject: str, figure: Figure, *, to: str = CONNTRACK) -> Spread:
    """Return a subject's figure as a part of another one's in the same round."""
    return spread_of([figure(found[subject]) / figure(found[to]) for found in rounds])


def added_ratio(
    rounds: Sequence[Round], subject: str, figure: Figure, *, to: str = CONNTRACK
) -> Spread:
    """Return what a subject adds as a part of what another one adds.

    Of single rounds the least and the greatest; the middle is that of the two medians. In a round
    both are small differences of large numbers, and where the lower one comes out too small, the
    ratio is far off: a median of such ratios is too high.
    """
    own, other = added(rounds, subject, figure), added(rounds, to, figure)
    by_round = [_part(a, b) for a, b in zip(own, other, strict=True)]
    return Spread(min(by_round), _part(median(own), median(other)), max(by_round))


def _part(own: float, other: float) -> float:
    return own / other if other > 0 else float("inf")
