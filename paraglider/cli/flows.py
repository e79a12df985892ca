"""Flows of UDP around a start and a stop, where no agent looks after them.

A flow that nobody serves any more would keep its old way for as long as its sender does not pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paraglider.cli.context import Context
from paraglider.config.model import Protocol
from paraglider.errors import ParagliderError
from paraglider.health.service import Service
from paraglider.kernel.apply import read_states
from paraglider.kernel.iptables import Variant
from paraglider.kernel.udp_flows import UdpFlows
from paraglider.rules.decode import decode_states


def read_served(context: Context, variant: Variant) -> Sequence[Service]:
    """Return the frontends with UDP that the rules serve now."""
    states = read_states(variant, context.host)
    if not any(" -p udp " in f" {text}" for state in states.values() for text in state.texts()):
        return ()  # a hundred thousand rules take seconds to be understood
    return [s for s in decode_states(states).services if _has_udp(s)]


def read_whatever_is_served(context: Context) -> Sequence[Service]:
    """Return the same, nothing where that cannot be read: the rules are to go all the same."""
    try:
        return read_served(context, context.choose_variant(where_ours_are=True).variant)
    except ParagliderError:
        return ()


def forget_flows(context: Context, services: Sequence[Service], before: Sequence[Service]) -> None:
    """Forget flows that `services` would not make, at their binds and at those that were served
    `before`."""
    binds = {bind for service in services for bind in service.binds}
    left = [
        replace(service, binds=gone, is_leaving=True)
        for service in before
        if (gone := tuple(bind for bind in service.binds if bind not in binds))
    ]
    concerned = [*(s for s in services if _has_udp(s)), *left]
    if concerned:
        flows = UdpFlows(is_local=context.host.is_local, source_for=context.host.source_for)
        flows.know(before)
        flows.forget_stale(concerned)


def _has_udp(service: Service) -> bool:
    return any(bind.protocol is Protocol.UDP for bind in service.binds)
