"""The host, as /proc tells of it."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from pathlib import Path

import pytest

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import (
    Backend,
    Bind,
    Config,
    Endpoint,
    Family,
    Frontend,
    Ports,
    Protocol,
)
from paraglider.errors import UnavailableError
from paraglider.kernel.host import NET_ADMIN, Host
from paraglider.kernel.survey import survey_host
from tests.unit.config_files import frontend_at

# Heads and lines as the kernel prints them, shortened on the right.
_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 0A020A0A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   2: 0A020A0A:01BB 0B020A0A:C350 01 00000000:00000000 00:00000000 00000000     0
"""
_TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000
"""
# Two servers; a client that is connected to whom it has asked, and one that is not.
_UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0A020A0A:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0
   1: 00000000:003A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0
   2: 0A020A0A:0037 08080808:0035 01 00000000:00000000 00:00000000 00000000     0
   3: 00000000:9C40 00000000:0000 07 00000000:00000000 00:00000000 00000000     0
"""
_ADVERTISED = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe800000000000000000000000000001 00000400 00000001 00000000 00450003     wlan0\n"
)


def _host(tmp_path: Path, **files: str) -> Host:
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(tmp_path)


def _outgoing(tmp_path: Path, span: str, reserved: str = "", **files: str) -> Host:
    """Return a host whose own connections leave from ports of `span`, but not the reserved."""
    return _host(
        tmp_path,
        sys__net__ipv4__ip_local_port_range=f"{span}\n",
        sys__net__ipv4__ip_local_reserved_ports=f"{reserved}\n",
        **files,
    )


def _survey(host: Host, *binds: Bind, name: str = "web", source: Source | None = None) -> list[str]:
    """Return what is found of one frontend with a backend that does not matter."""
    backend = Backend(ip_address("10.1.1.1" if binds[0].family is Family.IPV4 else "fd00::1"), 80)
    frontend = Frontend(name, binds, source or Source(SourceKind.AUTO), (backend,))
    return survey_host(Config("test", (frontend,)), host)


@pytest.mark.parametrize(("mask", "expected"), [("0000000000001000", True), ("ffffefff", False)])
def test_a_capability_is_one_bit_of_the_effective_set(
    tmp_path: Path, mask: str, expected: bool
) -> None:
    """CAP_NET_ADMIN is bit 12, whatever else is there or lacking."""
    host = _host(tmp_path, self__status=f"Name:\tx\nCapPrm:\tffff\nCapEff:\t{mask}\n")
    assert host.has_capability(NET_ADMIN) is expected


def test_forwarding_that_is_on_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written, and nothing needs saying."""
    host = _host(tmp_path, sys__net__ipv4__ip_forward="1\n")
    reason: list[str] = []
    host.enable_forwarding([Family.IPV4], reason.append)
    assert reason == []


def test_forwarding_that_is_off_is_switched_on(tmp_path: Path) -> None:
    """The caller learns that it was off."""
    host = _host(tmp_path, sys__net__ipv4__ip_forward="0\n")
    reason: list[str] = []
    host.enable_forwarding([Family.IPV4], reason.append)
    assert reason == ["IPv4 forwarding was off; switched it on for the whole host"]
    assert host.is_forwarding(Family.IPV4)


def test_forwarding_that_cannot_be_switched_on_names_the_command(tmp_path: Path) -> None:
    """In a container /proc/sys is read-only: the mend is a command on the host."""

    def refuse(_path: str, _text: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    proc = _host(tmp_path, sys__net__ipv4__ip_forward="0\n").proc
    with pytest.raises(UnavailableError, match=r"sysctl -w net\.ipv4\.ip_forward=1"):
        Host(proc, write=refuse).enable_forwarding([Family.IPV4], print)


def test_ipv6_forwarding_is_not_switched_on_where_it_would_cut_the_host_off(
    tmp_path: Path,
) -> None:
    """A default route from an advertisement runs out once the host forwards: the mend keeps it."""
    host = _host(tmp_path, sys__net__ipv6__conf__all__forwarding="0\n", net__ipv6_route=_ADVERTISED)
    (tmp_path / "sys/net/ipv4").mkdir()
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("0\n")
    mend = r"sysctl -w net/ipv6/conf/wlan0/accept_ra=2 net\.ipv6\.conf\.all\.forwarding=1"
    with pytest.raises(UnavailableError, match=mend):
        host.enable_forwarding(Family, print)
    # Neither family is switched on where one cannot be.
    assert not host.is_forwarding(Family.IPV4)
    assert not host.is_forwarding(Family.IPV6)


def test_ipv6_forwarding_is_switched_on_where_advertisements_stay_welcome(tmp_path: Path) -> None:
    """accept_ra of 2 means: also while forwarding."""
    host = _host(
        tmp_path,
        sys__net__ipv6__conf__all__forwarding="0\n",
        sys__net__ipv6__conf__wlan0__accept_ra="2\n",
        net__ipv6_route=_ADVERTISED,
    )
    host.enable_forwarding([Family.IPV6], print)
    assert host.is_forwarding(Family.IPV6)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("10.10.2.10:8080", True),
        ("10.10.2.11:8080", False),  # somebody listens on the port, on another address
        ("10.10.2.10:443", False),  # a connection, not a listener
        ("10.10.2.10:22", True),  # [::]:22 takes IPv4 too
        ("2001:db8::1:22", True),
        ("2001:db8::1:25", False),
    ],
)
def test_a_survey_finds_a_listener_on_the_bind(tmp_path: Path, bind: str, expected: bool) -> None:
    """By its address, or on all addresses: its clients would be taken away, with SSH the way in."""
    address, port = bind.rsplit(":", 1)
    endpoint = Endpoint(ip_address(address), int(port))
    backend = Backend(ip_address(address) + 1, 80)
    frontend = frontend_at("web", endpoint, endpoint.address, (backend,))
    host = _host(tmp_path, net__tcp=_TCP, net__tcp6=_TCP6)
    findings = survey_host(Config("test", (frontend,)), host)
    reason = f"web: a program of this host listens on {endpoint}"
    assert any(finding.startswith(reason) for finding in findings) is expected


def test_a_survey_looks_for_listeners_of_the_protocol_and_in_all_of_a_range(tmp_path: Path) -> None:
    """The first of them is named, and how many; a socket that has only asked somebody is none."""
    binds = (
        Bind(Family.IPV4, Ports(50, 50000), Protocol.UDP),
        Bind(Family.IPV4, Ports(53, 53), Protocol.TCP),
    )
    host = _outgoing(tmp_path, "40000\t60999", net__udp=_UDP)
    reason, *_ = _survey(host, *binds, name="dns")
    assert reason == (
        "dns: a program of this host listens on port 53 and 1 more of 0.0.0.0:50-50000/udp: its "
        "clients will reach the backends instead"
    )


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        (Bind(Family.IPV4, Ports(22, 22)), True),  # [::]:22 takes IPv4 too
        (Bind(Family.IPV6, Ports(22, 22)), True),
        (Bind(Family.IPV4, Ports(8080, 8080)), True),  # somebody's address of that family
        (Bind(Family.IPV6, Ports(8080, 8080)), False),
        (Bind(Family.IPV4, Ports(25, 25)), False),  # on 127.0.0.1
        (Bind(Family.IPV4, Ports(22, 22), interface="eth0"), True),
        (Bind(Family.IPV4, Ports(8080, 8080), interface="eth0"), False),  # perhaps another's
    ],
)
def test_a_survey_finds_a_listener_at_a_bind_of_any_address(
    tmp_path: Path, bind: Bind, expected: bool
) -> None:
    """Of the bind's family."""
    findings = _survey(_host(tmp_path, net__tcp=_TCP, net__tcp6=_TCP6), bind)
    assert any("listens on" in finding for finding in findings) is expected


@pytest.mark.parametrize(
    ("ports", "reason"),
    [
        # Neither end of it is one.
        (Ports(80, 33000), "may use ports 32768-32769,32781-33000 for"),
        (Ports(80, 33000), "reserved_ports=32770-32780,32768-32769,32781-33000"),
        (Ports(32768, 32768), "may use port 32768 for"),
        # The host could connect to nobody any more.
        (Ports(80, 65535), "take them out of the bind, or out of net.ipv4.ip_local_port_range"),
    ],
)
def test_a_survey_names_the_ports_that_the_host_itself_may_use(
    tmp_path: Path, ports: Ports, reason: str
) -> None:
    """All of a range, and a command where enough of them are left."""
    host = _outgoing(tmp_path, "32768\t60999", "32770-32780")
    [finding] = _survey(host, Bind(Family.IPV4, ports))
    assert reason in finding


def test_a_survey_looks_at_every_address_of_a_privateip(tmp_path: Path) -> None:
    """The first that is not this host's is named, and how many more."""
    first = ip_address("198.51.100.4")
    source = Source(SourceKind.ADDRESS, ((first, first + 4),))
    [finding] = _survey(Host(tmp_path), Bind(Family.IPV4, Ports(80, 80)), source=source)
    reason = (
        "web: privateip 198.51.100.4 (and 4 more of 198.51.100.4-198.51.100.8) is not an address"
    )
    assert finding.startswith(reason)


@pytest.mark.parametrize(("port", "expected"), [(40000, True), (40001, False), (80, False)])
def test_a_survey_finds_a_port_that_the_host_itself_may_use(
    tmp_path: Path, port: int, expected: bool
) -> None:
    """A connection of the host from that port would meet the shield; reserved ones are not used."""
    host = _outgoing(tmp_path, "32768\t60999", "40001-40003,50000")
    bind = Endpoint(ip_address("198.51.100.1"), port)
    frontend = frontend_at("web", bind, bind.address, (Backend(bind.address + 1, 80),))
    findings = survey_host(Config("test", (frontend,)), host)
    assert (
        any("net.ipv4.ip_local_reserved_ports=40001-40003,50000,40000" in f for f in findings)
        is expected
    )


def test_legacy_tables_are_seen_without_creating_them(tmp_path: Path) -> None:
    """The kernel lists the tables that exist; an empty or missing list is none."""
    host = _host(tmp_path, net__ip_tables_names="nat\nfilter\n", net__ip6_tables_names="")
    assert host.has_legacy_tables(Family.IPV4)
    assert not host.has_legacy_tables(Family.IPV6)


def test_a_survey_tells_what_does_not_fit_this_host(tmp_path: Path) -> None:
    """Addresses that no interface has (TEST-NET-2 is never on one), each with what it means."""
    bind = Endpoint(ip_address("198.51.100.1"), 80)
    backend = Backend(ip_address("198.51.100.3"), 80)
    frontend = frontend_at("web", bind, ip_address("198.51.100.2"), (backend,))
    findings = survey_host(Config("test", (frontend,)), Host(tmp_path))
    assert [finding.split(":")[:2] for finding in findings] == [
        ["web", " bind 198.51.100.1 is not an address of this host"],
        ["web", " privateip 198.51.100.2 is not an address of this host"],
    ]
