"""Values that are right by themselves and wrong together.

Owns the checks between the values of a frontend, and between frontends but for their binds
(overlap.py). Everything is looked up in dictionaries: ten thousand frontends take ten thousand
steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from paraglider.config.clients import Network
from paraglider.config.draft import Draft
from paraglider.config.model import Address, Bind
from paraglider.config.problems import Place, Problems

# The first bind of each IP version of a frontend, and its place.
Binds = Mapping[int, tuple[Bind, Place]]


def check_agreement(drafts: Sequence[Draft], problems: Problems) -> None:
    """Tell `problems` what does not fit together in `drafts`."""
    _check_names((draft.name for draft in drafts), problems)
    for draft in drafts:
        binds: Binds = {bind.family: (bind, place) for bind, place in reversed(draft.binds)}
        if _check_families(draft, binds, problems):
            _check_served(draft, binds, problems)
        _check_ports(draft, problems)
        _check_quorum(draft, list(binds), problems)
        _check_checks(draft, problems)
    if _may_meet(drafts):
        from paraglider.config.overlap import check_overlaps

        check_overlaps(drafts, problems)


def _may_meet(drafts: Sequence[Draft]) -> bool:
    """Return whether anything here can be, or lead to, another bind."""
    binds = [bind for draft in drafts for bind, _ in draft.binds]
    addresses = {bind.address for bind in binds}
    return len(binds) > 1 or any(
        it.backend.host in addresses
        for draft in drafts
        for it in draft.backends
        if it.backend is not None
    )


def _check_names(names: Iterable[tuple[str, Place] | None], problems: Problems) -> None:
    first: dict[str, Place] = {}
    for found in names:
        if found is not None and (known := first.setdefault(*found)) is not found[1]:
            problems.add(found[1], f"the name {found[0]} is taken by {known}")


def _check_families(draft: Draft, binds: Binds, problems: Problems) -> bool:
    """Tell which addresses are of a family that no bind is of; return whether none is."""
    before = problems.count
    for address, place in _addresses_of(draft) if binds else ():
        if address.version not in binds:
            [(bind, bind_place)] = binds.values()
            problems.add(
                place,
                f"{address} is {_family(address.version)}, but {bind_place} is"
                f" {_family(bind.family)}; write one of that family, or add a bind of this one",
            )
    return problems.count == before


def _addresses_of(draft: Draft) -> Iterator[tuple[Address, Place]]:
    """Yield all addresses of a frontend but its bind's."""
    if draft.source is not None:
        for (first, _), place in draft.source.ranges:
            yield first, place
    if draft.check and draft.check.address:
        yield draft.check.address
    for it in draft.backends:
        if it.backend is not None and not isinstance(it.backend.host, str):
            yield it.backend.host, it.place
        if it.check and it.check.address:
            yield it.check.address


def _check_served(draft: Draft, binds: Binds, problems: Problems) -> None:
    """Tell which binds nobody serves, or nobody may connect to, for want of their family."""
    backends = [it.backend for it in draft.backends]
    literal = [it.host for it in backends if it is not None and not isinstance(it.host, str)]
    sources = [] if draft.source is None else [first for (first, _), _ in draft.source.ranges]
    networks, allow_place = draft.allow
    for version, (bind, place) in binds.items():
        family = _family(version)
        if literal and len(literal) == len(backends) and not _has(literal, version):
            problems.add(
                place,
                f"{bind} is {family} but no backend is; add an {family} backend or remove the bind",
            )
        if draft.source and sources and not _has(sources, version):
            mend = f"no address is {family}, and {place} is; add one, or write auto"
            problems.add(draft.source.place, mend)
        if networks and not _has(networks, version):
            everybody = "0.0.0.0/0" if version == 4 else "::/0"
            problems.add(
                allow_place,
                f"no network is {family}, and {place} is: no client could connect to it; add one,"
                f" such as {everybody} for all clients",
            )


def _has(values: Iterable[Address | Network], version: int) -> bool:
    return any(value.version == version for value in values)


def _check_ports(draft: Draft, problems: Problems) -> None:
    """Tell of ranges that do not fit the bind's, and of a server that is listed both with the
    bind's port and without one."""
    found = [(it.backend, it.place) for it in draft.backends if it.backend is not None]
    if not draft.binds or all(it.port and not it.last_port for it, _ in found):
        return
    all_ports = {bind.ports for bind, _ in draft.binds}
    (first, last), bind_place = draft.binds[0][0].ports, draft.binds[0][1]
    has = "has several ranges" if len(all_ports) > 1 else f"has {last - first + 1}"
    seen: dict[tuple[Address | str, int], Place] = {}
    for backend, place in found:
        count = backend.last_port - backend.port
        if backend.last_port and (len(all_ports) > 1 or count != last - first):
            problems.add(
                place,
                f"{backend} has {count + 1} ports, and {bind_place} {has}: they are mapped one to"
                " one, so both must be one range of the same length; write that, or one port",
            )
        elif len(all_ports) == 1 and first == last:
            key = backend.host, backend.port or first
            if (known := seen.setdefault(key, place)) is not place:
                message = f"{backend} is listed already, as the bind has port {first}: {known}"
                problems.add(place, f"{message}; list every backend once")


def _check_quorum(draft: Draft, versions: Sequence[int], problems: Problems) -> None:
    """How many servers a name stands for is not known here, nor what a refused backend is."""
    if draft.quorum is None or not draft.backends:
        return
    hosts: list[Address] = []
    for it in draft.backends:
        if it.backend is None:
            return
        if it.backend.is_backup:
            continue
        if isinstance(it.backend.host, str):
            return
        hosts.append(it.backend.host)
    counts = {"": len(hosts)}
    if len(versions) > 1:  # a frontend each, and each has the quorum
        counts = {f"{_family(v)} ": sum(h.version == v for h in hosts) for v in sorted(versions)}
    quorum, place = draft.quorum
    most = quorum.live + quorum.hysteresis
    for which, count in counts.items():
        if most <= count:
            continue
        if quorum.live > count:
            message = (
                f"the quorum of {quorum.live} is never reached: the {which}backends that are not"
                f" backups are {count}; write a smaller number"
            )
        else:
            message = (
                f"once lost, the quorum is won back by {quorum.live} + {quorum.hysteresis} ="
                f" {most} {which}backends, and those that are not backups are {count}; write"
                " smaller numbers"
            )
        problems.add(place, message)
        return


def _check_checks(draft: Draft, problems: Problems) -> None:
    frontend, backends = draft.check, [it.check for it in draft.backends if it.check]
    if not frontend and not backends:
        return
    from paraglider.config.check import check_settings

    if frontend:
        check_settings(None, frontend, problems)
    for backend in backends:
        check_settings(frontend, backend, problems)


def _family(version: int) -> str:
    return f"IPv{version}"
