"""One frontend as far as it is known, each value with the place where it stands.

A draft exists so that the checks between values go on while some values are wrong, and can name
the places of both. It becomes a `Frontend` once nothing is missing, or two: one for each family
that it has binds of. File and environment both make drafts, through the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from paraglider.config.address import Refused
from paraglider.config.backend import BackendDraft
from paraglider.config.clients import Access, AddressRange, Network, Source, SourceKind
from paraglider.config.model import (
    DEFAULT_CHECK,
    DEFAULT_QUORUM,
    NAME_PATTERN,
    NAME_RULE,
    Address,
    Backend,
    Bind,
    Check,
    CheckKind,
    Family,
    Frontend,
    Ports,
    Protocol,
    Quorum,
)
from paraglider.config.problems import Place
from paraglider.config.quote import quoted

if TYPE_CHECKING:
    from paraglider.config.check import CheckDraft


class BindDraft(NamedTuple):
    """One bind as it was written; `family` is None where it is that of the backends."""

    address: Address | None
    interface: str
    family: Family | None
    ports: tuple[Ports, ...]


class SourceDraft(NamedTuple):
    """What backends see, and the place of each range and of all."""

    kind: SourceKind
    ranges: tuple[tuple[AddressRange, Place], ...]
    place: Place


# A list of networks of both families, and its place.
Networks = tuple[tuple[Network, ...], Place]
NO_NETWORKS: Networks = ((), Place(None, None, ""))


@dataclass(slots=True, eq=False, repr=False)  # what nobody needs costs time at every start
class Draft:
    """What is known of a frontend by now; None is a value that is missing or was refused.

    `policy` has the fields of Frontend, and `access` those of its Access, that were given, of
    those that have a default and need no place.
    """

    name: tuple[str, Place] | None = None
    written_binds: tuple[tuple[BindDraft, Place], ...] = ()
    protocols: tuple[Protocol, ...] = (Protocol.TCP,)
    source: SourceDraft | None = None
    backends: tuple[BackendDraft, ...] = ()
    check: CheckDraft | None = None
    quorum: tuple[Quorum, Place] | None = None
    allow: Networks = NO_NETWORKS
    deny: Networks = NO_NETWORKS
    access: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    # Those that the written ones come to, known once all else is.
    binds: tuple[tuple[Bind, Place], ...] = ()

    def settle_binds(self) -> None:
        """Take it that all is read, so that `binds` are known."""
        is_open = any(written.family is None for written, _ in self.written_binds)
        families = self._backends_families() if is_open else []
        self.binds = tuple(
            (Bind(family, ports, protocol, written.address, written.interface), place)
            for written, place in self.written_binds
            for family in ((written.family,) if written.family else families)
            for ports in written.ports
            for protocol in self.protocols
        )

    def frontends(self) -> Iterator[Frontend]:
        """Yield what the draft comes to, IPv4 first; nothing while something is not known."""
        if self.name is None or self.source is None:
            return
        families = {bind.family for bind, _ in self.binds}
        for family in sorted(families) if len(families) > 1 else families:
            binds = tuple(bind for bind, _ in self.binds if bind.family is family)
            yield Frontend(
                self.name[0],
                binds,
                self._build_source(self.source, family),
                tuple(self._build_backends(family, binds[0].ports.first)),
                quorum=self.quorum[0] if self.quorum else DEFAULT_QUORUM,
                access=self._build_access(family),
                **self.policy,
            )

    def _backends_families(self) -> list[Family]:
        """Return the families of the backends or, where all of these are names, of whatever else
        has one."""
        hosts = (it.backend.host for it in self.backends if it.backend is not None)
        versions: set[int] = {host.version for host in hosts if not isinstance(host, str)}
        if not versions and self.source and self.source.kind is SourceKind.ADDRESS:
            versions = {range_[0].version for range_, _ in self.source.ranges}
        elif not versions:
            versions = {4, *(it.family for it, _ in self.written_binds if it.family)}
        return [Family(version) for version in sorted(versions)]

    def _build_source(self, source: SourceDraft, family: Family) -> Source:
        if source.kind is not SourceKind.ADDRESS:
            return Source(source.kind)
        return Source.of(it for it, _ in source.ranges if it[0].version == family)

    def _build_access(self, family: Family) -> Access:
        allow, deny = (
            tuple(it for it in networks if it.version == family)
            for networks in (self.allow[0], self.deny[0])
        )
        return Access(allow, deny, **self.access)

    def _build_backends(self, family: Family, port: int) -> Iterator[Backend]:
        """Yield the backends of `family`, names among them; where one has no port of its own,
        `port` is probed."""
        shared = shared_at = self._build_check(None)
        if any(backend is not None and not backend.port for backend, _, _ in self.backends):
            shared_at = _at_port(shared, port)
        for backend, _, own in self.backends:
            if backend is None or not (
                isinstance(backend.host, str) or backend.host.version == family
            ):
                continue
            if own is not None:
                check = self._build_check(own)
                check = check if backend.port else _at_port(check, port)
            else:
                check = shared if backend.port else shared_at
            yield backend if check is DEFAULT_CHECK else replace(backend, check=check)

    def _build_check(self, own: CheckDraft | None) -> Check:
        if self.check is None and own is None:
            is_udp = self.protocols == (Protocol.UDP,)  # of which a connection says nothing
            return Check(kind=CheckKind.NONE) if is_udp else DEFAULT_CHECK
        from paraglider.config.check import build_check

        return build_check(self.check, own)


def _at_port(check: Check, port: int) -> Check:
    if check.kind is CheckKind.NONE or check.port is not None:
        return check
    return replace(check, port=port)


def parse_name(text: str) -> str:
    """Return the name of a frontend. Raises Refused."""
    if re.fullmatch(NAME_PATTERN, text):
        return text
    raise Refused(f"{quoted(text)} is not a name; a name is {NAME_RULE}")
