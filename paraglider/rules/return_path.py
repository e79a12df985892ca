"""Return path: answers of balanced connections take the route of the host's own answers.

On a host with several uplinks, policy routing chooses the uplink by the source address:

    1000:  from 203.0.113.2 lookup 2

An answer of a balanced connection is routed before its source is translated back, so no such rule
sees 203.0.113.2: it sees the backend. The answer is therefore marked by the address that the client
connected to, and each rule of the host gets a copy that goes by the mark:

    -A PREROUTING -j PARAGLIDER-REPLY                                  behind all rules of others
    -A OUTPUT -j PARAGLIDER-REPLY              the same, for the answers of a backend on this host
    -A PARAGLIDER-REPLY -m conntrack --ctstate DNAT --ctproto 6 --ctorigdst 203.0.113.2
                        --ctorigdstport 80 --ctdir REPLY -j PARAGLIDER-UPLINK
    -A PARAGLIDER-UPLINK -m conntrack --ctorigdst 203.0.113.2
                         -j MARK --set-xmark 0x20000000/0x3f000000
    -A FORWARD -j PARAGLIDER-UNMARK
    -A INPUT -j PARAGLIDER-UNMARK
    -A POSTROUTING -j PARAGLIDER-UNMARK
    -A PARAGLIDER-UNMARK -m conntrack --ctstate DNAT --ctdir REPLY -m mark ! --mark 0x0/0x3f000000
                         -j MARK --set-xmark 0x0/0x3f000000

    1000:  from all fwmark 0x20000000/0x3f000000 lookup 2 proto 80

The mark exists between mangle PREROUTING and the routing decision, and nowhere else: whatever the
host saves, matches or shapes by its own marks sees these alone. A host without such rules gets none
of this. Which rules are copied is in policy_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paraglider.config.model import Bind
from paraglider.health.service import Service
from paraglider.rules.dispatch import Area, Dispatch, Place
from paraglider.rules.policy_rules import MARK_MASK, as_matched
from paraglider.rules.ruleset import (
    REPLY_CHAIN,
    Chain,
    CtState,
    Jump,
    Mark,
    Network,
    Rule,
    SetMark,
    Target,
    own_chain,
)

UPLINK_CHAIN = own_chain("UPLINK")
UNMARK_CHAIN = own_chain("UNMARK")


def routed_binds(services: Iterable[Service]) -> list[Bind]:
    """Return the binds of services whose answers the host's policy rules route."""
    return [bind for s in services if s.is_policy_routed for bind in s.binds]


def plan_marking(services: Iterable[Service], marks: Mapping[Network, int]) -> list[Chain]:
    """Return the chains that mark answers of `services`, leaving ones among them, by the prefix
    that the client's destination is in; none without `marks`."""
    places = [
        Place(bind.protocol, bind.address, bind.ports, Jump(UPLINK_CHAIN))
        for bind in routed_binds(services)
        if bind.address is None or any(bind.address in prefix for prefix in marks)
    ]
    if not marks or not places:
        return []
    replies = Dispatch("REPLY")
    chosen = replies.rules(dict.fromkeys(places), _reply)
    # Wide ones first: a narrower one sets the mark anew.
    marking = tuple(
        Rule(ct_address=as_matched(prefix), target=SetMark(mark, MARK_MASK))
        for prefix, mark in marks.items()
    )
    is_marked = Mark(0, MARK_MASK, is_not=True)
    unmark = Rule(
        ct_state=CtState.DNAT, is_reply=True, mark=is_marked, target=SetMark(0, MARK_MASK)
    )
    return [
        Chain(REPLY_CHAIN, tuple(chosen)),
        Chain(UPLINK_CHAIN, marking),
        Chain(UNMARK_CHAIN, (unmark,)),
        *replies.chains,
    ]


def _reply(area: Area, target: Target) -> Rule:
    """Match answers of translated connections, and errors about what was sent to the backend."""
    return Rule(
        ct_state=CtState.DNAT,
        is_reply=True,
        ct_protocol=area.protocol,
        ct_address=area.network,
        ct_ports=area.ports,
        target=target,
    )
