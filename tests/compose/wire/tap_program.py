"""Runs inside a container's network: shows every frame on its wires, and sends what it is told.

    python3 -c SOURCE

Standard input takes a frame a line, ``INTERFACE HEX``, and its end ends the program. Standard
output first has a line ``INTERFACE MAC`` for each wire, then an empty one, then a line for each
frame: ``INTERFACE in|out HEX``. Standard library only, since it runs in the image as it is.

Checksums are left to network cards where there is one; here nobody would ever fill them in, and
what is seen on the wire would be wrong. So that is switched off for what this host itself sends.
"""

import array
import contextlib
import fcntl
import os
import selectors
import socket
import struct
import sys

ETH_P_ALL = 3
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
RECEIVE_BUFFER_BYTES = 8 << 20


def open_wire(name: str) -> socket.socket:
    """Return a socket that sees all frames of an interface, in both directions."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    wire.bind((name, ETH_P_ALL))
    return wire


def compute_checksums(name: str) -> None:
    """Let the kernel compute the checksums of what this host sends by an interface."""
    command = array.array("I", [ETHTOOL_STXCSUM, 0])  # struct ethtool_value of linux/ethtool.h
    pointer = command.buffer_info()[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCETHTOOL, struct.pack("16sP", name.encode(), pointer))


def send_all(wires: dict[str, socket.socket], lines: bytes) -> None:
    """Send the frames that whole lines name."""
    for line in lines.decode().splitlines():
        name, text = line.split()
        wires[name].send(bytes.fromhex(text))


def main() -> None:
    """Do both until the end of standard input."""
    names = sorted(name for _, name in socket.if_nameindex() if name.startswith("eth"))
    wires = {name: open_wire(name) for name in names}
    selector = selectors.DefaultSelector()
    for name, wire in wires.items():
        compute_checksums(name)
        selector.register(wire, selectors.EVENT_READ, name)
        print(name, wire.getsockname()[4].hex(":"))
    print(flush=True)
    selector.register(sys.stdin, selectors.EVENT_READ)
    reason = b""
    while True:
        for key, _ in selector.select():
            if key.data:
                frame, address = wires[key.data].recvfrom(65536)
                way = "out" if address[2] == socket.PACKET_OUTGOING else "in"
                print(key.data, way, frame.hex(), flush=True)
                continue
            chunk = os.read(sys.stdin.fileno(), 65536)
            if not chunk:
                return
            *lines, reason = (reason + chunk).split(b"\n")
            send_all(wires, b"\n".join(lines))


with contextlib.suppress(BrokenPipeError):
    main()
