"""nft rules: the base chains of a table, as ``nft -j list table`` prints it (libnftables-json(5)).

    {"nftables": [{"chain": {"family": "inet", "table": "fw", "name": "forward", "hook": "forward",
                             "type": "filter", "prio": 0, "policy": "drop"}},
                  {"rule": {"chain": "forward", "expr": [{"match": {...}}, {"accept": null}]}}]}

What is not known here matches perhaps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import ip_address, ip_network

from paraglider.config.model import Family
from paraglider.kernel.flow import Hook, Packet
from paraglider.kernel.foreign_rules import Act, BaseChain, ForeignRule, Match

# JSON, whose shape is looked at before it is used.
Json = object
_Value = Callable[[Packet], Json]

# Where clients come in, if that is not known.
_NOT_LO = "?"
# The client's, of which there are tens of thousands.
_CLIENT_PORT = -1
_ENDS = {"accept": Act.ACCEPT, "drop": Act.DROP, "reject": Act.DROP, "return": Act.RETURN}
_LEADS = {"jump": Act.JUMP, "goto": Act.GOTO}
_NAT = {"dnat": Act.DNAT, "redirect": Act.DNAT, "snat": Act.SNAT, "masquerade": Act.SNAT}
# Statements that let every packet go on.
_SIDE = frozenset({"counter", "log", "mangle", "flow", "ct helper", "ct timeout", "last", "quota"})
_NFPROTO = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}
_ETHERTYPE = {Family.IPV4: "ip", Family.IPV6: "ip6"}


def find_interface_maps(text: str) -> list[str]:
    """Return the names of the verdict maps of a table that tell interfaces apart, which are small:
    ``nft --terse`` leaves their elements out."""
    if '"verdict"' not in text:
        return []  # a large table is not parsed twice
    return [
        str(it.get("name"))
        for it in _objects(_items(text), "map")
        if it.get("type") == "ifname" and it.get("map") == "verdict"
    ]


def read_base_chains(text: str, maps: Iterable[str] = ()) -> list[BaseChain]:
    """Return the base chains of the table in `text` that IP packets meet; none where it is not JSON
    of nft. `maps` are listings of its named maps: another named map may lead anywhere."""
    elements = {
        f"@{it.get('name')}": it.get("elem", [])
        for one in maps
        for it in _objects(_items(one), "map")
    }
    items = _items(text)
    rules: dict[tuple[str, str, str], list[ForeignRule]] = {}
    for rule in _objects(items, "rule"):
        expressions = [e for e in _list(rule.get("expr")) if isinstance(e, dict)]
        rules.setdefault(_key(rule, "chain"), []).extend(_rules(expressions, elements))
    return [
        _base(chain, rules, order)
        for order, chain in enumerate(_objects(items, "chain"))
        if chain.get("hook") in _HOOKS
    ]


_HOOKS = frozenset(hook.value for hook in Hook)


def _items(text: str) -> list[Json]:
    try:
        return _list(_get(json.loads(text), "nftables"))
    except ValueError:
        return []


def _objects(items: Iterable[Json], kind: str) -> list[dict[str, Json]]:
    """Return the objects of a kind (``chain``, ``rule``, ``map``) in a listing."""
    found = (item[kind] for item in items if isinstance(item, dict) and kind in item)
    return [it for it in found if isinstance(it, dict)]


def _key(item: Mapping[str, Json], field: str) -> tuple[str, str, str]:
    return str(item.get("family")), str(item.get("table")), str(item.get(field))


def _base(
    chain: Mapping[str, Json],
    rules: Mapping[tuple[str, str, str], list[ForeignRule]],
    order: int,
) -> BaseChain:
    family, table, name = _key(chain, "name")
    beside = {k[2]: tuple(found) for k, found in rules.items() if k[:2] == (family, table)}
    priority = chain.get("prio")
    return BaseChain(
        f"{family} {table} {name}",
        Hook(str(chain.get("hook"))),
        priority if isinstance(priority, int) else 0,
        is_nat=chain.get("type") == "nat",
        is_drop=chain.get("policy") == "drop",
        rules=beside.get(name, ()),
        chains=beside,
        mend=f"nft insert rule {family} {table} {name} {{}} accept",
        order=order,
    )


def _rules(
    expressions: Iterable[Mapping[str, Json]], maps: Mapping[str, Json]
) -> Iterator[ForeignRule]:
    """Yield what one rule does: several, where it has a verdict map or does more than one thing."""
    matches: list[Match] = []
    for expression in expressions:
        for word, value in expression.items():
            if word == "match":
                matches.append(_match(value))
            elif word == "vmap":
                yield from _verdict_map(tuple(matches), value, maps)
            elif word in _SIDE and _zone(word, value) is None:
                continue
            elif (act := _act(word, value)) is not None:
                yield ForeignRule(tuple(matches), *act)
            else:
                matches.append(_perhaps)  # limit, xt, an `add @set` with a limit in it, and others


def _act(word: str, value: Json) -> tuple[Act, str] | None:
    if word in _ENDS:
        return _ENDS[word], ""
    if word in _LEADS:
        return _LEADS[word], str(_get(value, "target"))
    if word in _NAT:
        to = _get(value, "addr")
        return _NAT[word], to if isinstance(to, str) else ""
    if word == "notrack":
        return Act.NOTRACK, ""
    if word in ("queue", "synproxy", "tproxy", "xt"):
        return Act.UNKNOWN, ""
    zone = _zone(word, value)
    return None if zone is None else (Act.ZONE, zone)


def _zone(word: str, value: Json) -> str | None:
    # One direction's alone (`dir`) is looked for in the other one, too: it does no harm.
    if word == "mangle" and _get(value, "key") == {"ct": {"key": "zone"}}:
        return str(_get(value, "value"))
    return None


def _verdict_map(
    before: tuple[Match, ...], value: Json, maps: Mapping[str, Json]
) -> Iterator[ForeignRule]:
    left, data = _get(value, "key"), _get(value, "data")
    elements = maps.get(data) if isinstance(data, str) else _get(data, "set")
    for element in _list(elements):
        pair = _list(element)
        if len(pair) == 2 and isinstance(pair[1], dict):
            match = partial(_compare, _left(left), "==", pair[0])
            for word, target in pair[1].items():
                if (act := _act(word, target)) is not None:
                    yield ForeignRule((*before, match), *act)
        else:  # of a form that is not known
            yield ForeignRule((*before, _perhaps), Act.UNKNOWN)
    if not isinstance(elements, list):  # a named one that was not read
        yield ForeignRule((*before, _perhaps), Act.UNKNOWN)


def _perhaps(packet: Packet) -> bool | None:  # noqa: ARG001 - as every match
    return None


def _match(value: Json) -> Match:
    left, right = _get(value, "left"), _get(value, "right")
    return partial(_compare, _left(left), str(_get(value, "op")), right)


def _compare(left: _Value, operator: str, right: Json, packet: Packet) -> bool | None:
    found = left(packet)
    if found is False:
        return False  # of another protocol or family: the rule is left whatever it compares
    if found is None or operator not in ("==", "!=", "in"):
        return None
    if isinstance(found, frozenset) and operator != "in":
        return None  # of all bits, some of which have no name
    answer = _is_among(found, right)
    return not answer if operator == "!=" and answer is not None else answer


def _is_among(found: Json, right: Json) -> bool | None:
    """Return whether a value is what `right` says, or one of that; `found` may be several flags,
    of which one is enough."""
    if isinstance(found, frozenset):
        answers = [_is_among(one, right) for one in found] or [False]
    elif isinstance(right, dict) and "set" in right:
        answers = [_is_among(found, one) for one in _list(right["set"])]
    elif isinstance(right, list):
        answers = [_is_among(found, one) for one in right]
    else:
        return _is_one(found, right)
    return True if True in answers else None if None in answers else False


def _is_one(found: Json, right: Json) -> bool | None:
    if isinstance(right, dict):
        return _is_within(found, right)
    if not isinstance(right, (str, int)) or str(right).startswith("@"):
        return None
    if found == _NOT_LO:
        return False if right == "lo" else None
    if isinstance(found, str):
        return fnmatchcase(found, str(right).replace("[", "[[]"))
    return str(found) == str(right)


def _is_within(found: Json, right: Mapping[str, Json]) -> bool | None:
    if found == _CLIENT_PORT:
        return None
    if isinstance(found, int) and "range" in right:
        low, high = [*_list(right["range"]), None, None][:2]
        is_known = isinstance(low, int) and isinstance(high, int)
        return low <= found <= high if is_known else None  # type: ignore[operator]  # as asked
    try:
        if "prefix" in right:
            prefix = right["prefix"]
            network = ip_network(f"{_get(prefix, 'addr')}/{_get(prefix, 'len')}", strict=False)
            return ip_address(str(found)) in network
        if "range" in right:
            first, last = (ip_address(str(end)) for end in _list(right["range"]))
            return int(first) <= int(ip_address(str(found))) <= int(last)
    except (TypeError, ValueError):
        return None
    return _is_one(found, right["elem"]) if "elem" in right else None


def _left(left: Json) -> _Value:
    """Return what a match looks at: None where that is not known, False where there is no such
    thing in the packet."""
    if isinstance(left, dict):
        for kind, read in _LEFT.items():
            if kind in left:
                return partial(read, left[kind])
    return lambda _: None


def _meta(what: Json, packet: Packet) -> Json:
    match _get(what, "key"):
        case "iifname" | "iif":
            return packet.comes_in_at or _NOT_LO
        case "oifname" | "oif":
            return packet.goes_out_at
        case "l4proto":
            return packet.protocol.value
        case "nfproto":
            return _NFPROTO[packet.family]
        case "protocol":
            return _ETHERTYPE[packet.family]
    return None


def _payload(what: Json, packet: Packet) -> Json:
    protocol, field = _get(what, "protocol"), _get(what, "field")
    if protocol in ("ip", "ip6"):
        if protocol != _ETHERTYPE[packet.family]:
            return False
        addresses = {"saddr": packet.source, "daddr": packet.destination}
        if field in addresses:
            address = addresses[str(field)]
            return None if address is None else str(address)
        return packet.protocol.value if field in ("protocol", "nexthdr") else None
    if protocol in ("tcp", "udp", "icmp", "icmpv6", "sctp", "dccp", "udplite", "esp", "ah"):
        if protocol != packet.protocol.value:
            return False
    elif protocol != "th":
        return None
    ports = {"sport": packet.source_port, "dport": packet.destination_port}
    return ports.get(str(field)) or (_CLIENT_PORT if field in ports else None)


def _ct(what: Json, packet: Packet) -> Json:
    key = str(_get(what, "key"))
    if packet.state == "invalid":
        return "invalid" if key == "state" else False
    # Of a first packet, not confirmed before its last hook.
    flags = {"seen-reply", "assured", "confirmed", "snat"} if packet.is_reply else set()
    of_original = {
        "ip daddr": None if packet.original is None else str(packet.original),
        "ip6 daddr": None if packet.original is None else str(packet.original),
        "proto-dst": packet.original_port,
    }
    found: Mapping[str, Json] = {
        "state": packet.state,
        "status": frozenset(flags | ({"dnat"} if packet.is_translated else set())),
        "direction": "reply" if packet.is_reply else "original",
        "l3proto": _NFPROTO[packet.family],
        "protocol": packet.protocol.value,
        **(of_original if _get(what, "dir") == "original" else {}),
    }
    return found.get(key)


_LEFT: Mapping[str, Callable[[Json, Packet], Json]] = {
    "meta": _meta,
    "payload": _payload,
    "ct": _ct,
}


def _get(value: Json, key: str) -> Json:
    return value.get(key) if isinstance(value, dict) else None


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
