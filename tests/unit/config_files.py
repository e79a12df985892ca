"""What tests of configuration files share: the sample of the seed, and how problems are read."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Address, Backend, Bind, Check, Endpoint, Frontend, Ports
from paraglider.config.parse import parse_config
from paraglider.errors import ConfigError

SEED_SAMPLE = b"""\
frontend:
  bind: 166.1.101.2:4444
  privateip: 172.19.0.4
  backends:
    - 172.19.0.2:5555
    - 172.19.0.3:5555
    - 172.19.0.6:5555
"""

SERVERS = "[10.0.0.2:80, 10.0.0.3:80]"


def endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(ip_address(address), port)


def backend(address: str, port: int) -> Backend:
    """Return a backend that has an address, and nothing else of its own."""
    return Backend(ip_address(address), port)


def frontend_at(
    name: str,
    bind: Endpoint,
    privateip: Address,
    backends: tuple[Backend, ...],
    **policy: Any,
) -> Frontend:
    """Return a frontend of one bind and one privateip."""
    source = Source(SourceKind.ADDRESS, ((privateip, privateip),))
    return Frontend(name, binds_at(bind), source, backends, **policy)


def binds_at(endpoint: Endpoint) -> tuple[Bind, ...]:
    """Return the one bind at an address and a port."""
    ports = Ports(endpoint.port, endpoint.port)
    return (Bind(endpoint.family, ports, address=endpoint.address),)


def text_of(more: str = "", *, backends: str = SERVERS) -> str:
    """Return a file of one frontend, with `more` lines of its keys from line 5 on, column 3."""
    lines = ["bind: 10.0.0.1:80", "privateip: 10.0.0.1", f"backends: {backends}"]
    lines += more.splitlines()
    return "frontend:\n" + "".join(f"  {line}\n" for line in lines)


def frontend_of(more: str = "", *, backends: str = SERVERS) -> Frontend:
    """Return the frontend that `text_of` configures."""
    [frontend] = parse_config(text_of(more, backends=backends).encode(), source="f").frontends
    return frontend


def check_of(check: str) -> Check:
    """Return the check that ``check: CHECK`` gives the backends of a frontend."""
    [found] = {backend.check for backend in frontend_of(f"check: {check}").backends}
    return found


def problems_of(text: bytes | str) -> list[str]:
    """Return the problems of a file named f, as they are told."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text if isinstance(text, bytes) else text.encode(), source="f")
    return [str(problem) for problem in caught.value.problems]
