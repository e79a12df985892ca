"""The host, as /proc tells of it."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from pathlib import Path

import pytest

from paraglider.config.model import Config, Endpoint, Family, Frontend
from paraglider.errors import UnavailableError
from paraglider.kernel.host import NET_ADMIN, Conntrack, Host
from paraglider.kernel.survey import survey_host

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
    assert host.enable_forwarding(Family.IPV4) is False


def test_forwarding_that_is_off_is_switched_on(tmp_path: Path) -> None:
    """The caller learns that it was off."""
    host = _host(tmp_path, sys__net__ipv4__ip_forward="0\n")
    assert host.enable_forwarding(Family.IPV4) is True
    assert host.is_forwarding(Family.IPV4)


def test_forwarding_that_cannot_be_switched_on_names_the_command(tmp_path: Path) -> None:
    """In a container /proc/sys is read-only: the mend is a command on the host."""

    def refuse(_path: Path, _text: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    proc = _host(tmp_path, sys__net__ipv4__ip_forward="0\n").proc
    with pytest.raises(UnavailableError, match=r"sysctl -w net\.ipv4\.ip_forward=1"):
        Host(proc, write=refuse).enable_forwarding(Family.IPV4)


def test_ipv6_forwarding_is_not_switched_on_where_it_would_cut_the_host_off(
    tmp_path: Path,
) -> None:
    """A default route from an advertisement runs out once the host forwards: the mend keeps it."""
    host = _host(tmp_path, sys__net__ipv6__conf__all__forwarding="0\n", net__ipv6_route=_ADVERTISED)
    with pytest.raises(UnavailableError, match=r"net\.ipv6\.conf\.wlan0\.accept_ra=2"):
        host.enable_forwarding(Family.IPV6)
    assert not host.is_forwarding(Family.IPV6)


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
def test_a_listener_on_the_bind_is_found(tmp_path: Path, bind: str, expected: bool) -> None:
    """By its address, or on all addresses."""
    host = _host(tmp_path, net__tcp=_TCP, net__tcp6=_TCP6)
    address, port = bind.rsplit(":", 1)
    assert host.is_listened_on(Endpoint(ip_address(address), int(port))) is expected


def test_conntrack_shows_count_and_limit(tmp_path: Path) -> None:
    """Both numbers, or None where the module is not loaded."""
    assert Host(tmp_path).read_conntrack() is None
    files = {"nf_conntrack_count": "12\n", "nf_conntrack_max": "262144\n"}
    host = _host(tmp_path, **{f"sys__net__netfilter__{k}": v for k, v in files.items()})
    assert host.read_conntrack() == Conntrack(12, 262144)


def test_legacy_tables_are_seen_without_creating_them(tmp_path: Path) -> None:
    """The kernel lists the tables that exist; an empty or missing list is none."""
    host = _host(tmp_path, net__ip_tables_names="nat\nfilter\n", net__ip6_tables_names="")
    assert host.has_legacy_tables(Family.IPV4)
    assert not host.has_legacy_tables(Family.IPV6)


def test_a_survey_tells_what_does_not_fit_this_host(tmp_path: Path) -> None:
    """Addresses that no interface has (TEST-NET-2 is never on one), each with what it means."""
    bind = Endpoint(ip_address("198.51.100.1"), 80)
    backend = Endpoint(ip_address("198.51.100.3"), 80)
    frontend = Frontend("web", bind, ip_address("198.51.100.2"), (backend,))
    findings = survey_host(Config("test", (frontend,)), Host(tmp_path))
    assert [finding.split(":")[:2] for finding in findings] == [
        ["web", " bind 198.51.100.1 is no address of this host"],
        ["web", " privateip 198.51.100.2 is no address of this host"],
    ]


def test_a_survey_warns_of_a_program_that_loses_its_clients(tmp_path: Path) -> None:
    """A listener on the bind would lose its connections: with SSH, the way in."""
    tcp = _TCP.replace("0A020A0A:1F90", "0100007F:1F90")
    bind = Endpoint(ip_address("127.0.0.1"), 8080)
    frontend = Frontend("web", bind, bind.address, (Endpoint(ip_address("10.0.0.1"), 80),))
    (finding,) = survey_host(Config("test", (frontend,)), _host(tmp_path, net__tcp=tcp))
    assert finding.startswith("web: a program of this host listens on 127.0.0.1:8080")
