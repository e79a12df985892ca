"""Foreign rules: what other programs' chains do to a packet of ours, as far as that is certain.

Pure. A match answers yes, no or None: cannot be judged. What may or may not be accepted is never
called dropped: a finding that is wrong is worse than one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from paraglider.kernel.flow import Hook, Packet

Match = Callable[[Packet], bool | None]
# As deep as the kernel follows jumps (NFT_JUMP_STACK_SIZE), and ends a loop.
_MOST_DEPTH = 16


class Act(Enum):
    """What a rule does."""

    GO_ON = auto()
    ACCEPT = auto()
    DROP = auto()
    RETURN = auto()
    JUMP = auto()
    GOTO = auto()
    DNAT = auto()
    SNAT = auto()
    NOTRACK = auto()
    ZONE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """A rule: all `matches` must hold. `to` is a chain, an address, or a zone."""

    matches: tuple[Match, ...]
    act: Act
    to: str = ""


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain that the kernel leads packets to, with those it may lead to. `order` is its place
    among chains of the same priority: the higher, the sooner it is met; None if unknown.
    `mend` is how a rule is put first in it, with ``{}`` for the match."""

    name: str
    hook: Hook
    priority: int
    is_nat: bool
    is_drop: bool
    rules: tuple[ForeignRule, ...]
    chains: Mapping[str, tuple[ForeignRule, ...]] = field(default_factory=dict)
    mend: str = ""
    is_nft: bool = True
    order: int | None = None


@dataclass(slots=True)
class Fate:
    """What becomes of a packet for certain: `is_dropped`, translated by `nat`, not tracked, in a
    conntrack `zone`."""

    is_dropped: bool = False
    nat: tuple[Act, str] | None = None
    is_untracked: bool = False
    zone: str = ""


class _Verdict(Enum):
    FELL_OFF = auto()
    ACCEPTED = auto()
    DROPPED = auto()


def follow(chain: BaseChain, packet: Packet) -> Fate:
    """Return what `chain` does to `packet`."""
    walk = _Walk(chain, packet)
    verdict = walk.rules(chain.rules, 0)
    is_dropped = verdict is _Verdict.DROPPED or (verdict is _Verdict.FELL_OFF and chain.is_drop)
    walk.fate.is_dropped = is_dropped and not walk.may_have_ended
    return walk.fate


class _Walk:
    def __init__(self, chain: BaseChain, packet: Packet) -> None:
        self._chain = chain
        self._packet = packet
        self.fate = Fate()
        # An accept, or whatever is like it, may have come before: nothing is certain from there.
        self.may_have_ended = False

    def rules(self, rules: tuple[ForeignRule, ...], depth: int) -> _Verdict:
        """Walk rules to a verdict, or off their end."""
        for rule in rules:
            holds = _all_hold(rule, self._packet)
            if holds is False:
                continue
            if holds is None:
                self._doubt(rule, depth)
                continue
            match rule.act:
                case Act.ACCEPT | Act.UNKNOWN | Act.DNAT | Act.SNAT:
                    self._note(rule)
                    self.may_have_ended |= rule.act is Act.UNKNOWN
                    return _Verdict.ACCEPTED
                case Act.DROP:
                    return _Verdict.DROPPED
                case Act.RETURN:
                    return _Verdict.FELL_OFF
                case Act.JUMP | Act.GOTO:
                    verdict = self._lead(rule.to, depth)
                    if verdict is not _Verdict.FELL_OFF or rule.act is Act.GOTO:
                        return verdict
                case _:
                    self._note(rule)
        return _Verdict.FELL_OFF

    def _lead(self, name: str, depth: int) -> _Verdict:
        if depth >= _MOST_DEPTH:
            self.may_have_ended = True
            return _Verdict.ACCEPTED
        return self.rules(self._chain.chains.get(name, ()), depth + 1)

    def _note(self, rule: ForeignRule) -> None:
        if self.may_have_ended:
            return
        match rule.act:
            case Act.DNAT | Act.SNAT:
                self.fate.nat = (rule.act, rule.to)
            case Act.NOTRACK:
                self.fate.is_untracked = True
            case Act.ZONE:
                self.fate.zone = rule.to

    def _doubt(self, rule: ForeignRule, depth: int) -> None:
        """Take it that a rule may be followed."""
        match rule.act:
            case Act.GO_ON | Act.DROP | Act.NOTRACK | Act.ZONE:
                return  # it does not let anything pass
            case Act.JUMP:
                # Harmless if that only drops, or comes back.
                other = _Walk(self._chain, self._packet)
                verdict = other._lead(rule.to, depth)
                self.may_have_ended |= other.may_have_ended or verdict is _Verdict.ACCEPTED
            case _:
                self.may_have_ended = True


def _all_hold(rule: ForeignRule, packet: Packet) -> bool | None:
    answers = [match(packet) for match in rule.matches]
    if False in answers:
        return False
    return None if None in answers else True
