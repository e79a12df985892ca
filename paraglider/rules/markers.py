"""Markers: chains in mangle that no jump leads to and no packet meets, and what they are there for.

    -A PARAGLIDER-PIN -m conntrack --ctstate INVALID -m comment --comment whole-CHECKSUM -j RETURN
    -A PARAGLIDER-DOWN -s BACKEND/32 -p tcp -m tcp --sport PORT -m conntrack --ctorigdst BIND
                       --ctorigdstport PORT -j RETURN
    -A PARAGLIDER-DRAINING ...the same... -m comment --comment until-86412 -j RETURN

The kernel keeps conntrack switched on in a network namespace while a rule refers to it. When
somebody flushes nat and filter, the pin is left, and established connections live on until the
rules are back. The seal on it tells whether all other rules are as they were written (checksum.py).

The notes are for who comes after an agent that was killed: which backends get no connections, and
why (the chain's name), which the rules that act cannot say. A chain is there while it has a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from paraglider.config.model import Ports
from paraglider.health.service import Health, Member, Service
from paraglider.rules.ruleset import Chain, CtState, Note, Rule, Verdict, own_chain

PIN_CHAIN = own_chain("PIN")

# One for each reason why a backend gets no connections.
MARKER_CHAINS = {
    health: own_chain(health.name) for health in (Health.DISABLED, Health.DOWN, Health.DRAINING)
}
# Of a note: when the connections of a draining backend are cut, in seconds of the monotonic clock,
# which goes on for as long as the kernel that holds the rules: nobody can set it, as a wall clock.
UNTIL = "until"


def plan_pin() -> Chain:
    """Return the pin, without a seal."""
    return Chain(PIN_CHAIN, (Rule(ct_state=CtState.INVALID, target=Verdict.RETURN),))


def plan_markers(services: Sequence[Service]) -> list[Chain]:
    """Return the chains that remember the members of `services` that get no connections."""
    chains = []
    for health, name in MARKER_CHAINS.items():
        members = [(s, m) for s in services for m in s.members if m.health is health]
        if members:
            chains.append(Chain(name, tuple(_note(*found) for found in members)))
    return chains


def _note(service: Service, member: Member) -> Rule:
    backend, bind = member.backend, service.bind
    ports = Ports(backend.port, backend.last_port or backend.port) if backend.port else None
    return Rule(
        source=backend.address,
        interface=bind.interface,
        protocol=bind.protocol,
        source_ports=ports,
        ct_address=bind.address,
        ct_ports=bind.ports,
        note=None if member.until_s is None else Note(UNTIL, str(ceil(member.until_s))),
        target=Verdict.RETURN,
    )
