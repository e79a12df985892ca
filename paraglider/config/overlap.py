"""Binds that take the same connections, and backends that lead back to a bind.

Of the binds that a connection fits, the most specific takes it: one with its address, then one with
its interface, then one with neither. Two that are alike in this may not share a port; nor may
a backend be where a bind is. Any address of this host may be one that a bind without an address
has, and which these are nobody knows here.

Imported where there is more than one bind. Ports are kept in order, and looked for by halves.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from paraglider.config.draft import Draft, SourceDraft
from paraglider.config.model import Backend, Bind, Family, Ports, Protocol
from paraglider.config.problems import Place, Problems


class _Taken(NamedTuple):
    """A bind that shares no port with one before it, and its place."""

    bind: Bind
    place: Place


# By what binds have in common that take the connections of each other; in order, and apart.
_Groups = dict[Hashable, list[_Taken]]
# The ports of a frontend by protocol and family; in order, and apart.
_OwnPorts = dict[tuple[Protocol, Family], list[Ports]]


def check_overlaps(drafts: Sequence[Draft], problems: Problems) -> None:
    """Tell `problems` of binds that share a port, and of backends that are a bind."""
    groups: _Groups = {}
    reported: set[tuple[Place, Place]] = set()
    for draft in drafts:
        for bind, place in draft.binds:
            scope = bind.protocol, bind.family, bind.address or bind.interface
            group = groups.setdefault(scope, [])
            if (first := _sharing(group, bind.ports)) is None:
                insort(group, _Taken(bind, place), key=_first_port)
            elif (pair := (first.place, place)) not in reported:  # as of another family or protocol
                reported.add(pair)
                problems.add(place, _shared(bind, first))
    _check_sources(drafts, problems)
    addresses = {bind.address for draft in drafts for bind, _ in draft.binds}
    for draft in drafts:
        found = [it for it in draft.backends if it.backend and it.backend.host in addresses]
        own = _own_ports(draft) if found else {}
        for it in found:
            if it.backend and (met := _first_met(it.backend, own, groups)):
                problems.add(it.place, _looped(it.backend, met))


def _check_sources(drafts: Sequence[Draft], problems: Problems) -> None:
    """Tell of binds without an address that share a port, and are of frontends whose backends see
    different sources: when that is given nobody knows any more where a connection came in."""
    found = sorted(
        ((bind, draft.source) for draft in drafts if draft.source for bind, _ in draft.binds),
        key=lambda it: it[0].ports,
    )
    known: dict[tuple[Protocol, Family], tuple[int, SourceDraft]] = {}
    reported: set[Place] = set()
    for bind, source in found:
        if bind.address is not None:
            continue
        scope = bind.protocol, bind.family
        last, before = known.get(scope, (0, source))
        if bind.ports.first > last:
            last, before = 0, source
        elif (
            _seen(source, bind.family) != _seen(before, bind.family)
            and source.place not in reported
        ):
            reported.add(source.place)
            problems.add(source.place, _two_sources(bind, before))
        known[scope] = max(last, bind.ports.last), before


def _seen(source: SourceDraft, family: Family) -> Hashable:
    own = (range_ for range_, _ in source.ranges if range_[0].version == family)
    return source.kind, frozenset(own)


def _two_sources(bind: Bind, before: SourceDraft) -> str:
    return (
        f"{bind} shares ports with a bind of another frontend, at any address like itself, and"
        f" what backends see differs from {before.place}: it cannot be told by the interface;"
        " write the same, or binds with an address"
    )


def _sharing(group: Sequence[_Taken], ports: Ports) -> _Taken | None:
    """Return one of `group` that shares a port; it is the last that begins before `ports` end."""
    at = bisect_right(group, ports.last, key=_first_port)
    return group[at - 1] if at and group[at - 1].bind.ports.last >= ports.first else None


def _first_port(taken: _Taken) -> int:
    return taken.bind.ports.first


def _shared(bind: Bind, first: _Taken) -> str:
    if bind == first.bind:
        return f"{bind} is a bind already: {first.place}; each needs an address and port of its own"
    return (
        f"{bind} has ports of the bind {first.bind}: {first.place}; each needs an address and"
        " ports of its own"
    )


def _own_ports(draft: Draft) -> _OwnPorts:
    found: _OwnPorts = {}
    for bind, _ in sorted(draft.binds, key=lambda found: found[0].ports):
        ports = found.setdefault((bind.protocol, bind.family), [])
        if ports and bind.ports.first <= ports[-1].last:
            ports[-1] = Ports(ports[-1].first, max(ports[-1].last, bind.ports.last))
        else:
            ports.append(bind.ports)
    return found


def _first_met(backend: Backend, own: _OwnPorts, groups: _Groups) -> _Taken | None:
    """Return a bind that `backend` is, or leads to by the ports of its frontend."""
    for (protocol, family), ports in own.items():
        group = groups.get((protocol, family, backend.host), [])
        meant = [Ports(backend.port, backend.last_port or backend.port)] if backend.port else ports
        if met := _first_shared(group, meant):
            return met
    return None


def _first_shared(group: Sequence[_Taken], ports: Sequence[Ports]) -> _Taken | None:
    """Return one of `group` that shares one of `ports`; of the two, the longer is searched."""
    if len(ports) <= len(group):
        return next((met for it in ports if (met := _sharing(group, it))), None)
    for taken in group:
        at = bisect_right(ports, taken.bind.ports.last, key=lambda it: it.first)
        if at and ports[at - 1].last >= taken.bind.ports.first:
            return taken
    return None


def _looped(backend: Backend, met: _Taken) -> str:
    is_it = backend.endpoint == met.bind.endpoint and met.bind.ports.first == met.bind.ports.last
    what = f"{backend} is a bind" if is_it else f"{backend} leads to {met.bind}, a bind"
    return (
        f"{what} of this configuration: {met.place};"
        " connections would come back here for ever, name a server"
    )
