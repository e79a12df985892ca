"""Who changes rules is seen, by whatever means, and what changes no rule is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from paraglider.kernel.iptables import Variant
from paraglider.lab.actors import read_line
from paraglider.lab.hosts import Lab
from tests.netns.harness import program

HOST, ELSEWHERE = "host", "elsewhere"
_ANSWER_S = 30.0

# In the order of iptables-save; each jump has a neighbour that it can change places with.
_RULES = """\
*filter
:OURS - [0:0]
-A FORWARD -j OURS
-A FORWARD -j ACCEPT
-A OUTPUT -j OURS
-A OURS -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
*nat
:OURS - [0:0]
-A PREROUTING -j OURS
-A PREROUTING -j RETURN
-A OURS -p tcp -m tcp --dport 80 -j REDIRECT
COMMIT
"""
_OWN = "*nat\n:OURS - [0:0]\n-A OURS -j RETURN\nCOMMIT\n*filter\n:OURS - [0:0]\nCOMMIT\n"
_MOVE = "*filter\n-D FORWARD 1\n-A FORWARD -j OURS\nCOMMIT\n"

# Says what was seen: null, or who it was. One look at the time that it is due is enough: the kernel
# has told of a change before the program that made it has ended.
_LISTENER = """
import json, select, subprocess, sys, time
from paraglider.kernel.changes import Changes
from paraglider.kernel.iptables import Variant
from paraglider.kernel.legacy_tables import LegacyTables

changes = Changes(Variant(sys.argv[1]))
changes.seen()
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if order == "look":
        time.sleep(max(0.0, (changes.next_s() or 0.0) - time.monotonic()))
        names = changes.seen()
        answer = None if names is None else sorted(names)
    elif order == "wait":
        ready = select.select([changes.fileno()], [], [], 10)[0]
        answer = "readable" if ready else "nothing was heard"
    elif order == "heads":
        tables = LegacyTables()
        heads = tables.read(is_whole=False).heads
        answer = [heads == tables.read(is_whole=True).heads, repr(heads)]
    else:
        with changes.ours():
            for argv, text in order:
                subprocess.run(argv, input=text, text=True, check=True)
        answer = None
    print(json.dumps(answer), flush=True)
"""


class Listener:
    """A process on a host that listens for changes there."""

    def __init__(self, lab: Lab, variant: Variant, *within: str) -> None:
        argv = [*within, sys.executable, "-c", _LISTENER, variant.value]
        self._process = lab.start(HOST, argv, stderr=subprocess.STDOUT)
        assert read_line(self._process, timeout_s=_ANSWER_S) == "ready\n"

    def order(self, what: object) -> None:
        """Let it do something."""
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Return what came of it."""
        return json.loads(read_line(self._process, timeout_s=_ANSWER_S))

    def look(self) -> list[str] | None:
        """Return what it has seen: None, or who it was."""
        self.order("look")
        seen: list[str] | None = self.answer()
        return seen

    def heads(self) -> tuple[bool, str]:
        """Return whether the heads of its tables are what all of them begin with, and the heads."""
        self.order("heads")
        is_same, heads = self.answer()
        return is_same, heads

    def write(self, *commands: tuple[Sequence[str], str]) -> None:
        """Let it run programs, with their input, as its own."""
        self.order(commands)
        self.answer()


@pytest.fixture
def host(lab: Lab, variant: Variant) -> Lab:
    """A lab with one host that has rules, of both families."""
    lab.add_host(HOST)
    for version in (4, 6):
        lab.run(HOST, [program(variant, "-restore", version)], input=_RULES)
    return lab


_ONLY_NFT = pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)
_ONLY_LEGACY = pytest.mark.parametrize("variant", [Variant.LEGACY], ids=["legacy"], indirect=True)

# What the kernel keeps of a program's name.
_NAME_LENGTH = 15


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    "change",
    [
        "-t nat -F",
        "-t nat -F OURS",
        "-t nat -D PREROUTING 1",
        "-R OURS 1 -p tcp -m tcp --dport 81 -j ACCEPT",
        "-P FORWARD DROP",
        "-t raw -A PREROUTING -j ACCEPT",
    ],
)
def test_what_somebody_does_to_rules_is_seen_once(
    host: Lab, variant: Variant, change: str, version: int
) -> None:
    """With the name of the program, where the kernel tells."""
    listener = Listener(host, variant)
    assert listener.look() is None
    name = program(variant, "", version)
    host.run(HOST, [name, *change.split()])
    assert listener.look() == ([name[:_NAME_LENGTH]] if variant is Variant.NFT else [])
    assert listener.look() is None


def test_a_jump_that_is_moved_is_seen(host: Lab, variant: Variant) -> None:
    """As many rules as before, of the same size, in another order."""
    listener = Listener(host, variant)
    host.run(HOST, [program(variant, "-restore"), "--noflush"], input=_MOVE)
    assert listener.look() is not None


@_ONLY_NFT
@pytest.mark.parametrize("change", ["delete table ip nat", "flush ruleset"])
def test_what_nft_does_is_seen(host: Lab, variant: Variant, change: str) -> None:
    """It takes whole tables with it."""
    listener = Listener(host, variant)
    host.run(HOST, ["nft", *change.split()])
    assert listener.look() == ["nft"]


@_ONLY_NFT
def test_the_kernel_tells_of_a_change_at_once(host: Lab, variant: Variant) -> None:
    """Who waits for the listener's file to be readable waits no longer than that."""
    listener = Listener(host, variant)
    listener.order("wait")
    host.run(HOST, ["nft", "flush", "ruleset"])
    assert listener.answer() == "readable"


@_ONLY_NFT
def test_elements_of_sets_are_no_rules(host: Lab, variant: Variant) -> None:
    """They come and go all the time on some hosts."""
    host.run(HOST, ["nft", "add", "table", "ip", "others"])
    host.run(HOST, ["nft", "add", "set", "ip", "others", "blocked", "{ type ipv4_addr; }"])
    listener = Listener(host, variant)
    for verb in ("add", "delete"):
        host.run(HOST, ["nft", verb, "element", "ip", "others", "blocked", "{ 192.0.2.1 }"])
    assert listener.look() is None


def test_what_is_only_read_or_counted_is_no_change(host: Lab, variant: Variant) -> None:
    """Packets meet the rules, and somebody looks at them."""
    listener = Listener(host, variant)
    host.run(HOST, [sys.executable, "-c", _SEND])
    for version in (4, 6):
        counted = host.run(HOST, [program(variant, "-save", version), "--counters"]).stdout
        assert "[0:0] -A OUTPUT -j OURS" not in counted
    assert listener.look() is None


_SEND = """
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 9))
"""


def test_rules_of_another_network_namespace_are_nothing(host: Lab, variant: Variant) -> None:
    """Of a container with its own network, say."""
    host.add_host(ELSEWHERE)
    listener = Listener(host, variant)
    host.run(ELSEWHERE, [program(variant, "-restore")], input=_RULES)
    assert listener.look() is None


# As in a container: its own processes, and of all capabilities NET_ADMIN alone.
_CONTAINED = ("unshare", "--pid", "--fork", "--kill-child")
_NET_ADMIN = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin")


@_ONLY_NFT
@pytest.mark.parametrize("within", [(), _CONTAINED], ids=["host", "container"])
def test_what_is_ours_is_left_out(host: Lab, variant: Variant, within: tuple[str, ...]) -> None:
    """Two tables in one program, which are two transactions; what another does is not left out."""
    listener = Listener(host, variant, *within)
    restore = [program(variant, "-restore"), "--noflush"]
    listener.write((restore, _OWN))
    assert listener.look() is None
    host.run(HOST, restore, input=_OWN)
    assert listener.look() == ["iptables-nft-re"]


@_ONLY_NFT
@pytest.mark.parametrize("within", [(), _CONTAINED], ids=["host", "container"])
def test_what_another_does_meanwhile_is_seen(
    host: Lab, variant: Variant, within: tuple[str, ...]
) -> None:
    """Although we write at the same time, and it is the same program."""
    listener = Listener(host, variant, *within)
    restore = [program(variant, "-restore"), "--noflush"]
    listener.write((restore, _OWN), (restore, _OWN))
    assert listener.look() == ["iptables-nft-re"]


def test_it_listens_with_net_admin_alone(host: Lab, variant: Variant) -> None:
    """No raw socket is needed, as the programs of legacy need one."""
    listener = Listener(host, variant, *_NET_ADMIN)
    assert listener.look() is None
    host.run(HOST, [program(variant), "-t", "nat", "-F"])
    assert listener.look() is not None


@_ONLY_LEGACY
def test_looking_makes_no_table(lab: Lab, variant: Variant) -> None:
    """Where there is none, none is there afterwards."""
    lab.add_host(HOST)
    listener = Listener(lab, variant)
    assert listener.look() is None
    names = ["cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
    assert lab.run(HOST, names).stdout == ""


@_ONLY_LEGACY
def test_the_head_of_a_large_table_is_read_without_the_rest(host: Lab, variant: Variant) -> None:
    """It is what the whole begins with, and a jump in it is seen to move."""
    rules = "".join(f"-A MANY -p tcp -m tcp --dport {port} -j DROP\n" for port in range(1, 3001))
    restore = [program(variant, "-restore"), "--noflush"]
    host.run(HOST, restore, input=f"*filter\n:MANY - [0:0]\n{rules}COMMIT\n")
    listener = Listener(host, variant)
    heads = [listener.heads()]
    host.run(HOST, restore, input=_MOVE)
    heads.append(listener.heads())
    assert [is_same for is_same, _ in heads] == [True, True]
    assert heads[0] != heads[1]
