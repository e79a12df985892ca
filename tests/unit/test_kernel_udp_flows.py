"""Which flows of UDP are forgotten: those that the present configuration would not make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from paraglider.config.clients import Access, Source, SourceKind
from paraglider.config.model import Address, Endpoint, Ports, Protocol
from paraglider.health.service import Health, Member, Service
from paraglider.kernel.conntrack_entries import Cut
from paraglider.kernel.udp_flows import UdpFlows
from tests.services import bind_at, service_of, source_of
from tests.unit.test_kernel_conntrack import (
    ANSWERED,
    BACKEND,
    BIND,
    CLIENT,
    FAMILIES,
    Connection,
    Kernel,
)

PRIVATEIP = {4: ip_address("10.1.0.1"), 6: ip_address("fd01::1")}
OTHER = {4: ip_address("10.1.0.9"), 6: ip_address("fd01::9")}


def _flow(version: int, *, seen: Address | None = None, backend: Endpoint | None = None) -> Kernel:
    entry = Connection(
        BIND[version],
        backend or BACKEND[version],
        CLIENT[version],
        state=None,
        status=ANSWERED,
        protocol=17,
        seen=Endpoint(seen or PRIVATEIP[version], 1024),
    )
    return Kernel([entry])


def _service(version: int, **changes: object) -> Service:
    bind = bind_at(BIND[version], Protocol.UDP)
    members = [Member(BACKEND[version])]
    service = service_of("dns", BIND[version], PRIVATEIP[version], members, ())
    return replace(service, **{"binds": (bind,), **changes})  # type: ignore[arg-type]


def _forget(
    kernel: Kernel,
    service: Service,
    *,
    before: Sequence[Service] = (),
    local: Sequence[Address] = (),
) -> Cut:
    version = int(service.family)
    flows = UdpFlows(
        is_local=lambda address: address in (PRIVATEIP[version], OTHER[version], *local),
        source_for=lambda _: OTHER[version],
        open_netlink=kernel.open,
    )
    flows.know(before)
    return flows.forget_stale([service])


AUTO, KEEP = Source(SourceKind.AUTO), Source(SourceKind.KEEP)


@FAMILIES
@pytest.mark.parametrize("is_stale", [False, True])
def test_a_flow_from_another_source_than_the_privateip_is_stale(
    version: int, is_stale: bool
) -> None:
    """The one that it has is not."""
    kernel = _flow(version, seen=OTHER[version] if is_stale else PRIVATEIP[version])
    assert _forget(kernel, _service(version)) == Cut(int(is_stale), 0)


@FAMILIES
@pytest.mark.parametrize(
    ("source", "is_client_seen", "is_stale"),
    [(AUTO, False, False), (AUTO, True, True), (KEEP, True, False), (KEEP, False, True)],
)
def test_a_flow_from_before_keep_or_auto_is_stale(
    version: int, source: Source, is_client_seen: bool, is_stale: bool
) -> None:
    """Whether the backend sees the client, or this host, tells which it is from."""
    seen = CLIENT[version].address if is_client_seen else PRIVATEIP[version]
    kernel = _flow(version, seen=seen)
    assert _forget(kernel, _service(version, source=source)).cut == is_stale


@FAMILIES
def test_a_flow_from_the_privateip_of_before_is_stale_under_auto(version: int) -> None:
    """Where the kernel would choose another one, and only where the file named it."""
    auto = _service(version, source=AUTO)
    named = _service(version, source=source_of(PRIVATEIP[version]))
    assert _forget(_flow(version), auto, before=[named]) == Cut(1, 0)
    assert _forget(_flow(version, seen=OTHER[version]), auto, before=[named]) == Cut(0, 0)
    assert _forget(_flow(version), auto) == Cut(0, 0)


@FAMILIES
def test_a_client_that_is_not_masked_by_keep_is_a_backend_or_this_host(version: int) -> None:
    """Its source is changed though all others' is kept; that is no reason to forget it."""
    keep = _service(version, source=KEEP)
    client = CLIENT[version].address
    assert _forget(_flow(version), keep, local=[client]) == Cut(0, 0)


@FAMILIES
def test_a_backend_on_this_host_sees_the_client(version: int) -> None:
    """Its packets do not leave the host."""
    kernel = _flow(version, seen=CLIENT[version].address)
    local = [BACKEND[version].address]
    assert _forget(kernel, _service(version), local=local) == Cut(0, 0)


@FAMILIES
@pytest.mark.parametrize(
    ("access", "is_stale"),
    [
        (lambda network: Access(allow=(network,)), False),
        (lambda network: Access(deny=(network,)), True),
        (lambda network: Access(allow=(network,), deny=(network,)), True),
    ],
    ids=["allowed", "denied", "both"],
)
def test_a_flow_of_a_client_that_is_refused_is_stale(
    version: int, access: object, is_stale: bool
) -> None:
    """One that may connect stays."""
    network = ip_network(f"{CLIENT[version].address}/{24 if version == 4 else 64}", strict=False)
    service = _service(version, access=access(network))  # type: ignore[operator]
    assert _forget(_flow(version), service).cut == is_stale


@FAMILIES
def test_a_flow_of_a_client_that_is_not_allowed_is_stale(version: int) -> None:
    """Others are, above and below it."""
    texts = ["10.0.0.0/16", "10.9.0.0/16"] if version == 4 else ["fd00::/64", "fd09::/64"]
    access = Access(allow=tuple(map(ip_network, texts)))
    assert _forget(_flow(version), _service(version, access=access)) == Cut(1, 0)


@FAMILIES
@pytest.mark.parametrize(("first", "is_stale"), [(5550, False), (5551, True), (5000, True)])
def test_a_flow_by_another_map_of_ports_is_stale(version: int, first: int, is_stale: bool) -> None:
    """The sixth port of the bind is the sixth of the backend."""
    backend = Endpoint(BACKEND[version].address, first, first + 10)
    at = BIND[version]
    bind = bind_at(at, Protocol.UDP)._replace(ports=Ports(at.port - 5, at.port + 5))
    service = _service(version, binds=(bind,), members=(Member(backend),))
    assert _forget(_flow(version), service).cut == is_stale


@FAMILIES
@pytest.mark.parametrize(
    ("changes", "is_stale"),
    [
        ({"health": Health.UP}, False),
        ({"health": Health.DRAINING}, False),
        ({"health": Health.DOWN}, True),
        ({"health": Health.DISABLED}, True),
        ({"is_leaving": True}, True),
    ],
)
def test_a_flow_to_a_backend_that_is_out_is_stale(
    version: int, changes: dict[str, object], is_stale: bool
) -> None:
    """One that drains keeps its own."""
    member = replace(Member(BACKEND[version]), **changes)  # type: ignore[arg-type]
    assert _forget(_flow(version), _service(version, members=(member,))).cut == is_stale


@FAMILIES
def test_a_flow_at_a_bind_that_left_is_stale(version: int) -> None:
    """Whatever else of it is right."""
    assert _forget(_flow(version), _service(version, is_leaving=True)) == Cut(1, 0)
