"""Inject: segments far outside the window of connections that talk, crafted with scapy.

    python -m tests.netns.inject INTERFACE sport|dport PORT COUNT

Listens on a host's own interface. After each data segment whose source (or destination) port is
PORT it sends at once one with the same addresses, ports and acknowledgement but a sequence number
2**28 too high, COUNT times in all. Prints how many it sent.
"""

from __future__ import annotations

import sys

from scapy.config import conf
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet
from scapy.sendrecv import send, sniff
from scapy.supersocket import L3RawSocket, L3RawSocket6

# What our own segments carry, so that they are not followed in turn.
_MARK = b"stray"


def main() -> None:
    """Send them, for 20 s at the most."""
    interface, side, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    conf.L3socket, conf.L3socket6 = L3RawSocket, L3RawSocket6
    sent = 0

    def is_data(packet: Packet) -> bool:
        if TCP not in packet or getattr(packet[TCP], side) != port:
            return False
        return bytes(packet[TCP].payload).strip(b"\0") not in (b"", _MARK)

    def follow(packet: Packet) -> None:
        nonlocal sent
        send(_outside_window(packet), verbose=False)
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
    return layer(src=head.src, dst=head.dst) / wrong / _MARK


if __name__ == "__main__":
    main()
