"""Targets: what the prober is told, as it reads it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from paraglider.agent.targets import plan_targets
from paraglider.config.model import Backend, Check, Endpoint, Ports
from tests.services import bind_at

_BIND = bind_at(Endpoint(ip_address("192.0.2.10"), 80))._replace(ports=Ports(9000, 9002))
_ADDRESS = ip_address("10.0.0.11")


def _port_of(backend: Backend, endpoint: Endpoint) -> int:
    (target,), _ = plan_targets([((_BIND, endpoint), backend)])
    return target.port


def test_a_backend_without_a_port_is_probed_at_the_first_of_the_bind() -> None:
    """Or at that of its check, and one with a port at that: the prober takes no port of 0."""
    alone = Backend(_ADDRESS, 0)
    assert _port_of(alone, Endpoint(_ADDRESS, 0)) == 9000
    checked = replace(alone, check=Check(port=8080))
    assert _port_of(checked, Endpoint(_ADDRESS, 0)) == 8080
    assert _port_of(Backend(_ADDRESS, 5555), Endpoint(_ADDRESS, 5555)) == 5555
