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

import errno
import struct
from collections.abc import Iterable
from contextlib import closing

from paraglider.config.model import Family
from paraglider.kernel.nat_anchor import PRIORITIES, TABLE
from paraglider.kernel.netlink import (
    NFNL_SUBSYS_NFTABLES,
    NFPROTO,
    NFT_GET_TABLE,
    NFT_NEW_CHAIN,
    NFT_NEW_RULE,
    NFT_NEW_TABLE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLMSG_ERROR,
    Netlink,
    attribute,
    batch,
    error_number,
    explain,
    message,
    nested,
)

# enum nft_table_attributes and its like
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT = 1
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_CT_REGISTER, _CT_KEY = 1, 2

_HOOKS = {"prerouting": 0, "postrouting": 4}  # enum nf_inet_hooks
_REGISTER_1, _CT_STATE = 1, 0  # enum nft_registers, enum nft_ct_keys
_PIN = "pin"
_READING = "read the NAT anchor"
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
    netlink.send(message(NFT_GET_TABLE, 0, 0, NFPROTO[family], _text(_TABLE_NAME, TABLE)))
    for data, kind, _, _, start, _ in netlink.receive(_READING):
        number = error_number(data, start) if kind == NLMSG_ERROR else 0
        if number not in (0, errno.ENOENT):
            raise explain(_READING, number, NFNL_SUBSYS_NFTABLES)
        return kind != NLMSG_ERROR
    return False


def _revival(family: Family) -> bytes:
    number = NFPROTO[family]
    chains = [_chain(hook) for hook in PRIORITIES]
    chains.append(_text(_CHAIN_TABLE, TABLE) + _text(_CHAIN_NAME, _PIN))
    requests = [
        message(NFT_NEW_TABLE, NLM_F_CREATE, 0, number, _text(_TABLE_NAME, TABLE)),
        *(message(NFT_NEW_CHAIN, NLM_F_CREATE, 0, number, chain) for chain in chains),
        message(NFT_NEW_RULE, NLM_F_CREATE | NLM_F_ACK, 0, number, _pin_rule()),
    ]
    return batch(NFNL_SUBSYS_NFTABLES, requests)


def _chain(hook: str) -> bytes:
    place = nested(
        _CHAIN_HOOK,
        attribute(_HOOK_NUMBER, _NUMBER.pack(_HOOKS[hook])),
        attribute(_HOOK_PRIORITY, _NUMBER.pack(PRIORITIES[hook])),
    )
    names = _text(_CHAIN_TABLE, TABLE) + _text(_CHAIN_NAME, hook)
    return names + place + _text(_CHAIN_TYPE, "nat")


def _pin_rule() -> bytes:
    # The state of the connection into a register, and nothing done with it: it has to be known.
    load = nested(
        _EXPRESSION_DATA,
        attribute(_CT_REGISTER, _NUMBER.pack(_REGISTER_1)),
        attribute(_CT_KEY, _NUMBER.pack(_CT_STATE)),
    )
    expression = nested(_LIST_ELEMENT, _text(_EXPRESSION_NAME, "ct"), load)
    names = _text(_RULE_TABLE, TABLE) + _text(_RULE_CHAIN, _PIN)
    return names + nested(_RULE_EXPRESSIONS, expression)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode("ascii") + b"\0")


def _ask(netlink: Netlink, requests: bytes, what: str) -> None:
    netlink.send(requests)
    for data, kind, _, _, start, _ in netlink.receive(what):
        if kind == NLMSG_ERROR:
            if number := error_number(data, start):
                raise explain(what, number, NFNL_SUBSYS_NFTABLES)
            return
