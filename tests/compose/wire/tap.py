"""A tap on the wires of a container: what passes there, as scapy's packets, and a way to send more.

    with closing(Tap(engine, stack.container("client"), {"02:42:0a:58:00:0a": "clients"})) as tap:
        tap.send("clients", IP(...) / TCP(...))
        (answer,) = tap.wait(lambda packet: TCP in packet, what="answer")

A program in the container's network (tap_program.py) hands over the frames; they are made and read
here, with scapy. Everything that a tap has seen stays in `frames`.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.compose.engine import HARDENED, IMAGE, Container, Engine

PROGRAM = (Path(__file__).parent / "tap_program.py").read_text()
TIMEOUT_S = 20.0
OPTIONS = (*HARDENED, "--cap-add=NET_RAW", "--log-driver=none")

Wanted = Callable[[Packet], bool]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame on one of a host's wires: whether it came in or went out, and all of it."""

    network: str
    came_in: bool
    packet: Packet

    def __str__(self) -> str:
        """Return a line about it, for people."""
        return f"{self.network} {'in ' if self.came_in else 'out'} {self.packet.summary()}"


class Tap:
    """All wires of one container. `networks` names them by the hardware address that each has."""

    def __init__(self, engine: Engine, container: Container, networks: dict[str, str]) -> None:
        self.name = container.name
        command = ["docker", "run", "--rm", "--interactive", "--label", engine.label, *OPTIONS]
        command += [f"--network=container:{container.name}", "--entrypoint=python3", IMAGE]
        self._process = subprocess.Popen(
            [*command, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._networks = self._read_wires(networks)
        self._interfaces = {network: name for name, network in self._networks.items()}
        self.frames: list[Frame] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read_frames, daemon=True)
        self._reader.start()

    def send(self, network: str, *packets: Packet) -> None:
        """Send whole frames, one after another."""
        assert self._process.stdin
        name = self._interfaces[network]
        self._process.stdin.writelines(f"{name} {bytes(packet).hex()}\n" for packet in packets)
        self._process.stdin.flush()

    def seen(self, wanted: Wanted, *, network: str = "", since: int = 0) -> list[Packet]:
        """Return what has come in or gone out so far, on one network or on all."""
        return [f.packet for f in self.frames[since:] if _is_it(f, wanted, network)]

    def wait(
        self, wanted: Wanted, *, what: str, network: str = "", since: int = 0, count: int = 1
    ) -> list[Packet]:
        """Return `count` packets that are `wanted`, once so many have passed; `since` is how many
        frames there were before the first that may be one of them."""
        deadline = time.monotonic() + TIMEOUT_S
        found: list[Packet] = []
        with self._changed:
            for index in itertools.count(since):
                while index == len(self.frames):
                    left_s = deadline - time.monotonic()
                    assert self._changed.wait(left_s), f"no {what} seen at {self.name}"
                if _is_it(self.frames[index], wanted, network):
                    found.append(self.frames[index].packet)
                if len(found) == count:
                    break
        return found

    def close(self) -> None:
        """Let go of the wires."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._reader.join(timeout=20)
        self._process.stdout.close()

    def _read_wires(self, networks: dict[str, str]) -> dict[str, str]:
        """Return the network of each interface: ``{"eth0": "clients"}``."""
        found: dict[str, str] = {}
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.strip():
                return found
            name, address = line.split()
            found[name] = networks[address]
        raise AssertionError(f"no tap in the network of {self.name}: {self._process.wait()}")

    def _read_frames(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            name, way, text = line.split()
            packet = Ether(bytes.fromhex(text))
            with self._changed:
                self.frames.append(Frame(self._networks[name], way == "in", packet))
                self._changed.notify_all()


def _is_it(frame: Frame, wanted: Wanted, network: str) -> bool:
    return network in ("", frame.network) and wanted(frame.packet)
