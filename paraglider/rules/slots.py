"""Slots: rules that find a client's slot by a hash, and in it the backend that owns it.

HMARK marks the packet with the number of the slot, the slots are found by bits of that mark, and
before anybody else sees it, the packet has the mark again that it came with.

    -A PARAGLIDER-web -p tcp -m mark ! --mark 0x0 -j CONNMARK --save-mark ...
    -A PARAGLIDER-web -p tcp -m mark ! --mark 0x0 -j HMARK ... --hmark-mod 2048 --hmark-offset 2048
    -A PARAGLIDER-web -p tcp -m mark --mark 0x0 -j HMARK ... --hmark-mod 2048
    -A PARAGLIDER-web -p tcp -m mark --mark 0x0/0x700 -j ...webAc       and so on, by more bits
    -A ...webAb -p tcp -m mark --mark 0x1/0xf -j ...webAa               each slot to its backend
    -A ...webAa -p tcp -m mark ! --mark 0x800/0x800 -j MARK --set-xmark 0x0/0xffffffff
    -A ...webAa -p tcp -m mark --mark 0x800/0x800 -j CONNMARK --restore-mark ...
    -A ...webAa -p tcp -j DNAT A

HMARK overwrites all of the mark. Where the packet has none, as nearly all have, none is put back. A
mark that it has waits in the connection's mark, and stays there: two marks and a slot are more than
two marks can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paraglider.config.model import Protocol
from paraglider.health.service import Service
from paraglider.rules.ruleset import Dnat, Hmark, Jump, Mark, Marking, Rule, Target

_WAYS = 16

# Puts rules into a chain of their own.
Node = Callable[[Sequence[Rule]], Jump]


def plan_slots(service: Service, owners: Sequence[Dnat | Jump], node: Node) -> list[Rule]:
    """Return rules that send each client to the owner of its slot, the chains below being put by
    `node`. The number of `owners` is a power of two."""
    slots, key, family = len(owners), service.hash_key, service.family
    to = {owner: node(_unmark(slots, owner)) for owner in dict.fromkeys(owners)}
    marked = Mark(0, is_not=True)
    return [
        _rule(marked, Marking.SAVE),
        _rule(marked, Hmark(family, key, slots, offset=slots)),
        _rule(Mark(0), Hmark(family, key, slots)),
        *_find_slot([to[owner] for owner in owners], node),
    ]


def _rule(mark: Mark | None, target: Target) -> Rule:
    return Rule(protocol=Protocol.TCP, mark=mark, target=target)


def _unmark(flag: int, owner: Dnat | Jump) -> list[Rule]:
    return [
        _rule(Mark(flag, flag, is_not=True), Marking.CLEAR),
        _rule(Mark(flag, flag), Marking.RESTORE),
        _rule(None, owner),
    ]


def _find_slot(ways: Sequence[Jump], node: Node) -> list[Rule]:
    """Return rules that find the way of a slot by the bits of its number."""
    if len(set(ways)) == 1:
        return [_rule(None, ways[0])]
    # Full chains at the bottom, where most are.
    each = 1
    while each * _WAYS < len(ways):
        each *= _WAYS
    targets = []
    for first in range(0, len(ways), each):
        part = ways[first : first + each]
        targets.append(part[0] if len(set(part)) == 1 else node(_find_slot(part, node)))
    # The backend with most of them needs no condition.
    rest = max(dict.fromkeys(targets), key=targets.count)
    mask = len(ways) - each
    rules = [
        _rule(Mark(number * each, mask), target)
        for number, target in enumerate(targets)
        if target != rest
    ]
    return [*rules, _rule(None, rest)]
