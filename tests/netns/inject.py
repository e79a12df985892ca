"""Inject: packets that do not belong, crafted with scapy, beside connections that talk.

    python -m tests.netns.inject stray|too-big INTERFACE sport|dport PORT COUNT

Listens on a host's own interface. After each data segment whose source (or destination) port is
PORT it sends one packet at once, COUNT in all, and prints how many it sent:

stray    the same addresses, ports and acknowledgement, but a sequence number 2**28 too high
too-big  to the segment's sender: it was too big to be sent on, 1300 bytes are the most (ICMP)
"""

from __future__ import annotations

import sys

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.sendrecv import sendp, sniff

# What our own segments carry, so that they are not followed in turn.
_MARK = b"stray"

MTU_BYTES = 1300


def main() -> None:
    """Send them, for 20 s at the most."""
    kind, interface, side = sys.argv[1:4]
    port, count = int(sys.argv[4]), int(sys.argv[5])
    make = {"stray": _outside_window, "too-big": _too_big}[kind]
    sent = 0

    def is_data(packet: Packet) -> bool:
        if TCP not in packet or getattr(packet[TCP], side) != port:
            return False
        return bytes(packet[TCP].payload).strip(b"\0") not in (b"", _MARK)

    def follow(packet: Packet) -> None:
        nonlocal sent
        sendp(make(packet), iface=interface, verbose=False)
        sent += 1

    sniff(iface=interface, lfilter=is_data, prn=follow, count=count, timeout=20, store=False)
    print(sent)


def _outside_window(packet: Packet) -> Packet:
    layer = IPv6 if IPv6 in packet else IP
    head, tcp = packet[layer], packet[TCP]
    wrong = TCP(
        sport=tcp.sport,
        dport=tcp.dport,
        seq=(tcp.seq + 2**28) % 2**32,
        ack=tcp.ack,
        flags="A",
        window=tcp.window,
    )
    link = Ether(src=packet[Ether].src, dst=packet[Ether].dst)
    return link / layer(src=head.src, dst=head.dst) / wrong / _MARK


def _too_big(packet: Packet) -> Packet:
    # The segment has arrived, so it is the next one that does not fit: hosts believe no tale of
    # what they know to be delivered.
    reason = packet[IPv6 if IPv6 in packet else IP].copy()
    reason[TCP].seq = (reason[TCP].seq + len(reason[TCP].payload)) % 2**32
    link = Ether(src=packet[Ether].dst, dst=packet[Ether].src)
    if IPv6 in packet:
        tale = ICMPv6PacketTooBig(mtu=MTU_BYTES) / bytes(reason)
        return link / IPv6(src=reason.dst, dst=reason.src) / tale
    head = ICMP(type="dest-unreach", code="fragmentation-needed", nexthopmtu=MTU_BYTES)
    return link / IP(src=reason.dst, dst=reason.src) / head / bytes(reason)[:28]


if __name__ == "__main__":
    main()
