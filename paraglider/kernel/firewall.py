"""Firewall: rules of other programs that keep balanced connections from passing.

It reads, through nft and iptables-save, and changes nothing: what a firewall lets through is for
its owner to say. An accept is final in its own chain alone, a drop is final everywhere, so that
every chain that a balanced packet meets is followed. Told is what is certain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from paraglider.config.clients import SourceKind
from paraglider.config.model import Family
from paraglider.errors import ParagliderError
from paraglider.health.service import Service
from paraglider.kernel.finding import Finding
from paraglider.kernel.flow import DST_NAT, SRC_NAT, Flow, Hook, Packet, flows_of
from paraglider.kernel.foreign_rules import Act, BaseChain, Fate, follow
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Variant, find_iptables
from paraglider.kernel.iptables_rules import read_base_chains as read_saved
from paraglider.kernel.nat_anchor import TABLE
from paraglider.kernel.nft_rules import find_interface_maps
from paraglider.kernel.nft_rules import read_base_chains as read_listed
from paraglider.kernel.policy_routing import PolicyWatch
from paraglider.kernel.process import Finished, find_program, run_program
from paraglider.kernel.routes import find_interfaces, find_routes
from paraglider.kernel.survey import survey_forwarding, survey_policy, survey_sources

_NFT_FAMILY = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_FAMILIES = {"ip": (Family.IPV4,), "ip6": (Family.IPV6,), "inet": tuple(Family)}
_TABLE_NAMES = {Family.IPV4: "net/ip_tables_names", Family.IPV6: "net/ip6_tables_names"}
_IPTABLES = ("filter", "mangle", "nat", "raw", "security")
# Where our own jump stands first, and decides.
_OURS = frozenset(
    {
        ("filter", Hook.FORWARD),
        ("filter", Hook.INPUT),
        ("nat", Hook.PREROUTING),
        ("nat", Hook.POSTROUTING),
        ("nat", Hook.INPUT),
    }
)
# As many commands as somebody would still read.
_MOST_MENDS = 10
_HOOKS = frozenset(hook.value for hook in Hook)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A chain that packets of `families` meet."""

    chain: BaseChain
    families: tuple[Family, ...]


def survey_services(
    services: Collection[Service], variant: Variant, *, host: Host
) -> list[Finding]:
    """Return everything on this host that keeps connections of `services` from passing as they
    should. Starts programs; a host without any finding takes some tens of milliseconds."""
    addresses = {member.backend.address for s in services for member in s.members}
    flows = flows_of(services, dict(find_routes(addresses)), find_interfaces())
    return [
        *survey_sources(services, host),
        *survey_forwarding(flows, host),
        *survey_policy(services, PolicyWatch().rules()),
        *survey_firewall(flows, variant=variant, host=host, run=host.run),
    ]


def survey_firewall(
    flows: Collection[Flow],
    *,
    variant: Variant,
    host: Host,
    nft_path: str | None = None,
    run: Callable[..., Finished] = run_program,
) -> list[Finding]:
    """Return what others' rules do to `flows`, with ours in iptables of `variant`.

    Needs NET_ADMIN; what cannot be read is passed over, nftables where nft is not installed.
    """
    if not flows:
        return []
    families = {flow.family for flow in flows}
    reader = _Reader(nft_path or find_program("nft"), host, run)
    chains, ours = reader.read(families, variant)
    found: dict[tuple[str, str], list[tuple[Flow, Finding]]] = {}
    for seen in chains:
        for flow in flows:
            if flow.family in seen.families:
                for finding in _judge(seen.chain, flow, ours):
                    found.setdefault((finding.code, seen.chain.name), []).append((flow, finding))
    return [_told_once(each) for each in found.values()]


def _told_once(found: Collection[tuple[Flow, Finding]]) -> Finding:
    """Return one finding for all flows that a chain does the same to, with what mends it for each;
    for every frontend where it is about several."""
    frontends = {flow.frontend for flow, _ in found}
    mends = dict.fromkeys(finding.mend for _, finding in found)
    first = next(finding for _, finding in found)
    frontend = first.frontend if len(frontends) == 1 else ""
    return replace(first, frontend=frontend, mend=" && ".join(islice(mends, _MOST_MENDS)))


class _Reader:
    def __init__(self, nft_path: str | None, host: Host, run: Callable[..., Finished]) -> None:
        self._nft_path = nft_path
        self._host = host
        self._run = run

    def read(
        self, families: Collection[Family], variant: Variant
    ) -> tuple[list[_Seen], Mapping[Family, int]]:
        """Return the chains of others that `families` meet, and a place in their order
        (BaseChain.order) after which those of NAT are certainly newer than ours."""
        listed = self._list_chains()
        is_nft = variant is Variant.NFT
        ours = {family: _newest_of_ours(listed, _NFT_FAMILY[family]) for family in families}
        chains = list(self._of_nft(listed, families))
        for kind in Variant:
            for family in families:
                for table in self._tables(kind, family, listed):
                    for chain in self._saved(kind, family, table):
                        is_ours = kind is variant and (table, chain.hook) in _OURS
                        if not is_ours:
                            chains.append(_Seen(chain, (family,)))
        return chains, {family: n for family, n in ours.items() if is_nft and n is not None}

    def _list_chains(self) -> list[tuple[str, str, str, str]]:
        """Return family, table, name and hook of every base chain, in the order in which the kernel
        has them."""
        text = self._nft("--terse", "list", "chains")
        try:
            items = json.loads(text)["nftables"] if text else []
        except (ValueError, KeyError, TypeError):
            return []  # an nft without JSON
        chains = [item["chain"] for item in items if "chain" in item]
        return [(c["family"], c["table"], c["name"], c["hook"]) for c in chains if c.get("hook")]

    def _nft(self, *what: str) -> str:
        if self._nft_path is None:
            return ""
        return self._ask([self._nft_path, "--json", *what])

    def _ask(self, argv: Collection[str]) -> str:
        try:
            done = self._run(list(argv))
        except ParagliderError:
            return ""
        return done.stdout if done.returncode == 0 else ""

    def _of_nft(
        self, listed: Collection[tuple[str, str, str, str]], families: Collection[Family]
    ) -> Iterator[_Seen]:
        order = {chain[:3]: number for number, chain in enumerate(listed)}
        tables = dict.fromkeys(
            (kind, table)
            for kind, table, name, hook in listed
            if hook in _HOOKS and kind in _FAMILIES and not _is_iptables(kind, table, name)
        )
        for kind, table in tables:
            if (kind != "inet" and table == TABLE) or set(families).isdisjoint(_FAMILIES[kind]):
                continue
            # Sets may have a hundred thousand elements, and are not looked into.
            text = self._nft("--terse", "list", "table", kind, table)
            maps = [self._nft("list", "map", kind, table, it) for it in find_interface_maps(text)]
            for chain in read_listed(text, maps):
                name = chain.name.split(" ", 2)[2]
                if not _is_iptables(kind, table, name):
                    number = order.get((kind, table, name))
                    yield _Seen(replace(chain, order=number), _FAMILIES[kind])

    def _tables(
        self, variant: Variant, family: Family, listed: Iterable[tuple[str, str, str, str]]
    ) -> list[str]:
        """Return the tables of iptables that there are: to read another would make it."""
        if variant is Variant.NFT:
            kind = _NFT_FAMILY[family]
            return sorted({t for k, t, name, _ in listed if k == kind and _is_iptables(k, t, name)})
        try:
            there = self._host.read(_TABLE_NAMES[family]).split()
        except OSError:
            return []
        return [name for name in _IPTABLES if name in there]

    def _saved(self, variant: Variant, family: Family, table: str) -> list[BaseChain]:
        try:
            path = find_iptables(variant, family, self._run).save_path
        except ParagliderError:
            return []
        command = path.rsplit("/", 1)[-1].removesuffix("-save")
        return read_saved(self._ask([path, "-t", table]), command)


def _newest_of_ours(listed: Sequence[tuple[str, str, str, str]], kind: str) -> int | None:
    """Return the last place of our NAT chains and of the anchor, None where one is missing.

    The kernel lists tables in the order in which they were made, but not chains of several tables.
    iptables' table may be older than our chains in it; the anchor is made when they are.
    """
    places = {table: n for n, (family, table, _, _) in enumerate(listed) if family == kind}
    return max(places["nat"], places[TABLE]) if {"nat", TABLE} <= places.keys() else None


def _is_iptables(kind: str, table: str, name: str) -> bool:
    return kind in _NFT_FAMILY.values() and table in _IPTABLES and name.isupper()


def _judge(chain: BaseChain, flow: Flow, ours: Mapping[Family, int]) -> Iterator[Finding]:
    if chain.is_nat:
        yield from _judge_nat(chain, flow, ours)
        return
    fates = dict[bool, tuple[Packet, Fate]]()
    for is_reply in (False, True):
        if chain.hook in flow.hooks(is_reply=is_reply):
            packet = flow.packet(chain.hook, chain.priority, is_reply=is_reply)
            fates[is_reply] = packet, follow(chain, packet)
    for is_reply, (packet, fate) in fates.items():
        which = "answers of" if is_reply else "connections to"
        whom = f"balanced {which} {flow.backend} port {flow.backend_port}"
        mend = _mend(chain, packet)
        if fate.is_dropped:
            text = f"{_called(chain)} drops {whom}"
            yield Finding(f"{chain.hook}-drop", text, flow.frontend, mend)
        elif packet.state == "invalid" and fate.is_untracked:
            text = f"{_called(chain)} lets {whom} go untracked, so that they are not translated"
            yield Finding("untracked", text, flow.frontend, mend)
    yield from _judge_zones(chain, flow, fates)


def _judge_zones(
    chain: BaseChain, flow: Flow, fates: Mapping[bool, tuple[Packet, Fate]]
) -> Iterator[Finding]:
    """A connection whose packets are in one zone one way, and in another the other way, is two."""
    if any(fate.is_dropped or fate.is_untracked for _, fate in fates.values()):
        return
    early = {way: found for way, found in fates.items() if found[0].state == "invalid"}
    if (
        flow.is_local
        or len(early) < len(fates)
        or len({fate.zone for _, fate in early.values()}) < 2
    ):
        return
    packet, fate = next(found for found in early.values() if found[1].zone)
    yield Finding(
        "zone",
        f"{_called(chain)} puts packets of balanced connections to {flow.backend} into conntrack "
        f"zone {fate.zone} one way only, so that answers are not translated",
        flow.frontend,
        _mend(chain, packet),
    )


def _judge_nat(chain: BaseChain, flow: Flow, ours: Mapping[Family, int]) -> Iterator[Finding]:
    if chain.hook not in flow.hooks(is_reply=False) or not _is_sooner(chain, flow, ours):
        return
    packet = flow.packet(chain.hook, chain.priority, is_reply=False)
    # At our own priority it is met before ours, too.
    early = replace(
        packet, is_translated=False, destination=flow.bind, destination_port=flow.bind_port
    )
    packet = early if chain.hook is Hook.PREROUTING else packet
    fate = follow(chain, packet)
    if fate.is_dropped:
        text = f"{_called(chain)} drops connections to port {flow.bind_port} of the bind"
        yield Finding(f"{chain.hook}-drop", text, flow.frontend, _mend(chain, packet))
    elif fate.nat and fate.nat[0] is Act.DNAT and chain.hook is Hook.PREROUTING:
        text = (
            f"{_called(chain)} takes connections to port {flow.bind_port} of the bind before "
            "Paraglider does"
        )
        yield Finding("bind-taken", text, flow.frontend, _mend(chain, packet))
    elif fate.nat and fate.nat[0] is Act.SNAT and _is_other_source(flow, fate.nat[1]):
        text = (
            f"{_called(chain)} changes the source of balanced connections to {flow.backend} before "
            "Paraglider does: backends do not see what privateip says"
        )
        yield Finding("source-taken", text, flow.frontend, _mend(chain, packet))


def _is_sooner(chain: BaseChain, flow: Flow, ours: Mapping[Family, int]) -> bool:
    """Return whether a NAT chain is certainly met before ours. Of two with one priority the newer
    is (nf_hook_entries_grow)."""
    own = DST_NAT if chain.hook in (Hook.PREROUTING, Hook.OUTPUT) else SRC_NAT
    if chain.priority != own:
        return chain.priority < own
    order = ours.get(flow.family)
    return order is not None and chain.order is not None and chain.order > order


def _is_other_source(flow: Flow, to: str) -> bool:
    """Return whether backends see something else than they should: `to`, or '' for the address that
    this host has on the way to the backend."""
    seen = to or str(flow.own)
    match flow.source:
        case SourceKind.KEEP:
            return True
        case SourceKind.AUTO:
            return seen != str(flow.own)
    return flow.seen_as is None or seen != str(flow.seen_as)


def _called(chain: BaseChain) -> str:
    return f"the {'nftables ' if chain.is_nft else ''}chain {chain.name}"


def _mend(chain: BaseChain, packet: Packet) -> str:
    """Return the command that lets balanced packets pass `chain`."""
    if packet.is_translated and not chain.is_nat:
        match = "ct status dnat" if chain.is_nft else "-m conntrack --ctstate DNAT"
        return chain.mend.format(match)
    end, address = ("s", packet.source) if packet.source_port else ("d", packet.destination)
    port = packet.source_port or packet.destination_port
    if chain.is_nft:
        where = f"{_NFT_FAMILY[packet.family]} {end}addr {address} " if address else ""
        return chain.mend.format(f"{where}{packet.protocol.value} {end}port {port}")
    where = f"-{end} {address} " if address else ""
    return chain.mend.format(f"{where}-p {packet.protocol.value} --{end}port {port}")
