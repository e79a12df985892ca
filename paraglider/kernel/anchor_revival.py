"""Revival: the NAT anchor back within a millisecond, without starting a program.

When somebody flushes the whole ruleset, everything that keeps established connections alive goes at
once, and each of their packets that comes before it is back is answered with a reset. What `nft`
does in some milliseconds, one message to the kernel (linux/netfilter/nf_tables.h) does at once:

    table ip paraglider {
        chain prerouting { type nat hook prerouting priority -99; }
        chain postrouting { type nat hook postrouting priority 101; }
        chain pin { ct state }
    }

That is less than the whole anchor (nat_anchor.py), which follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import closing

from paraglider.config.model import Family
from paraglider.kernel.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Netlink,
    attribute,
    error_number,
    explain,
    nested,
)

_TABLE = b"paraglider\0"
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEW_TABLE, _GET_TABLE, _NEW_CHAIN, _NEW_RULE = (_SUBSYSTEM << 8 | n for n in (0, 1, 3, 6))
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NLM_F_CREATE = 0x400
_AF = {Family.IPV4: 2, Family.IPV6: 10}
# enum nf_inet_hooks, and priorities beside those of iptables' own chains.
_HOOKS = ((b"prerouting\0", 0, -99), (b"postrouting\0", 4, 101))
_NUMBER = struct.Struct("!i")


def revive_anchors(families: Iterable[Family]) -> list[Family]:
    """Make what keeps translation alive where the anchor's table is missing; return where it was.

    Raises PermissionDenied or UnavailableError.
    """
    missing = []
    with closing(Netlink()) as netlink:
        for family in families:
            if not _has_table(netlink, family):
                _ask(netlink, _revival(family), "put the NAT anchor back")
                missing.append(family)
    return missing


def _has_table(netlink: Netlink, family: Family) -> bool:
    netlink.send(_message(_GET_TABLE, NLM_F_REQUEST, _AF[family], attribute(1, _TABLE)))
    for _, kind, *_ in netlink.receive("read the NAT anchor"):
        return kind != NLMSG_ERROR
    return False


def _revival(family: Family) -> bytes:
    table = attribute(1, _TABLE)
    chains = [
        table
        + attribute(3, name)
        + nested(4, attribute(1, _NUMBER.pack(hook)), attribute(2, _NUMBER.pack(priority)))
        + attribute(7, b"nat\0")
        for name, hook, priority in _HOOKS
    ]
    chains.append(table + attribute(3, b"pin\0"))
    # The state of the connection into a register, and nothing done with it: it has to be known.
    load = attribute(1, _NUMBER.pack(1)) + attribute(2, _NUMBER.pack(0))
    expression = nested(1, attribute(1, b"ct\0"), nested(2, load))
    rule = table + attribute(2, b"pin\0") + nested(4, expression)
    make = NLM_F_REQUEST | _NLM_F_CREATE
    return b"".join(
        [
            _message(_BATCH_BEGIN, NLM_F_REQUEST, 0, b"", resource=_SUBSYSTEM),
            _message(_NEW_TABLE, make, _AF[family], table),
            *(_message(_NEW_CHAIN, make, _AF[family], chain) for chain in chains),
            _message(_NEW_RULE, make | NLM_F_ACK, _AF[family], rule),
            _message(_BATCH_END, NLM_F_REQUEST, 0, b"", resource=_SUBSYSTEM),
        ]
    )


def _message(kind: int, flags: int, family: int, inside: bytes, *, resource: int = 0) -> bytes:
    frame = bytes((family, 0)) + struct.pack("!H", resource)
    return HEADER.pack(HEADER.size + 4 + len(inside), kind, flags, 0, 0) + frame + inside


def _ask(netlink: Netlink, batch: bytes, what: str) -> None:
    netlink.send(batch)
    for data, kind, _, _, start, _ in netlink.receive(what):
        if kind == NLMSG_ERROR:
            if number := error_number(data, start):
                raise explain(what, number)
            return
