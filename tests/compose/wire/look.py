"""What to look at in a packet: its checksums, what may change on the way, and what may not."""

from __future__ import annotations

from collections.abc import Iterator
from socket import IPPROTO_ICMPV6, IPPROTO_TCP
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, in4_chksum
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    in6_chksum,
)
from scapy.packet import Packet
from scapy.utils import checksum

_ICMPV6_ERRORS = (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded)


def has_right_checksums(packet: Packet) -> bool:
    """Whether the checksums of IP, TCP and ICMP, in a packet that was captured, are right.

    Those of what an ICMP error quotes are not among them.
    """
    return not any(_sums(packet))


def _sums(packet: Packet) -> Iterator[int]:
    """What each checksum covers, itself included, adds up to 0 (RFC 1071)."""
    if IP in packet:
        yield checksum(packet[IP].original[: packet[IP].ihl * 4])
    if ICMP in packet:
        yield checksum(packet[ICMP].original)
    if TCP in packet and IP in packet:
        yield in4_chksum(IPPROTO_TCP, packet[IP], packet[TCP].original)
    for layer in (TCP, *_ICMPV6_ERRORS):
        if layer in packet and IPv6 in packet:
            protocol = IPPROTO_TCP if layer is TCP else IPPROTO_ICMPV6
            yield in6_chksum(protocol, packet[layer].underlayer, packet[layer].original)


def ends(packet: Packet) -> tuple[Any, ...]:
    """Return source address and port, destination address and port."""
    head = packet[IPv6 if IPv6 in packet else IP]
    return head.src, packet[TCP].sport, head.dst, packet[TCP].dport


def hops_left(packet: Packet) -> int:
    """Return the TTL, or hop limit."""
    return int(packet[IPv6].hlim if IPv6 in packet else packet[IP].ttl)


def constant(packet: Packet) -> dict[str, Any]:
    """Return all of a segment that no router and no translation of addresses may touch."""
    parts = {
        IP: "tos len id flags frag options",
        IPv6: "tc fl plen nh",
        TCP: "seq ack dataofs reserved flags window urgptr options",
    }
    found = {
        f"{layer.__name__} {name}": packet[layer].getfieldval(name)
        for layer, names in parts.items()
        if layer in packet
        for name in names.split()
    }
    return {**found, "payload": bytes(packet[TCP].payload)}


def addresses(packet: Packet) -> set[str]:
    """Return every address of a packet, those in a packet that an ICMP error quotes included."""
    found = set()
    layer: Any = packet
    while layer:
        if "src" in layer.fields and "dst" in layer.fields and layer.name != "Ethernet":
            found |= {str(layer.src), str(layer.dst)}
        layer = layer.payload
    return found
