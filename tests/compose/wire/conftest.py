"""The stack of this folder, once with each variant of iptables, and taps on all of its wires."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.compose.engine import Engine
from tests.compose.rules import skip_without_legacy
from tests.compose.runs import PROJECT
from tests.compose.stack import Stack, open_stack
from tests.compose.wire.conversation import LANES, Conversation, Lane, Road, make_conversation
from tests.compose.wire.look import addresses
from tests.compose.wire.tap import Frame, Tap

HOSTS = ("client", "appliance", "red", "green", "blue")
FOREIGN = {"clients": ("10.89.", "fd89:"), "backends": ("10.88.", "fd88:")}


@pytest.fixture(scope="session", params=["nft", "legacy"])
def stack(request: pytest.FixtureRequest, any_compose: str) -> Iterator[Stack]:
    """A client, the appliance and three backends, with each variant of iptables in turn."""
    over = []
    if request.param == "legacy":
        over = ["legacy.yaml"]
        skip_without_legacy(Engine(PROJECT))
    with open_stack(Path(__file__).parent, compose=any_compose, over=over) as stack:
        stack.appliance.wait_until_it_says(f"rules are in iptables ({request.param})")
        # What is on paper only, and hosts that are told where it is.
        for route in (
            "ip route add 10.88.64.0/18 via 10.88.0.10",
            "ip route add 10.89.16.0/20 via 10.89.0.11",
            "ip -6 route add fd88:0:0:0:16::/80 via fd88::10",
            "ip -6 route add fd89:0:0:0:16::/80 via fd89::11",
        ):
            stack.appliance.execute(*route.split())
        yield stack


@pytest.fixture(scope="session")
def road(stack: Stack) -> Iterator[Road]:
    """Taps on the wires of all."""
    links = {}
    for service in HOSTS:
        networks = stack.container(service).inspect(".NetworkSettings.Networks")
        for network, settings in networks.items():
            links[service, network.rsplit("_", 1)[-1]] = settings["MacAddress"]
    with ExitStack() as exits:
        taps = {}
        for service in HOSTS:
            wires = {mac: network for (host, network), mac in links.items() if host == service}
            tap = Tap(stack.engine, stack.container(service), wires)
            taps[service] = exits.enter_context(closing(tap))
        yield Road(taps, links)


@pytest.fixture(autouse=True)
def nothing_untranslated(road: Road) -> Iterator[None]:
    """During no test a packet has an address of the clients' network on the backends' wires, or one
    of the backends' on the clients' wires; what an ICMP error quotes included.

    What comes in to the appliance is not looked at, others have sent it: in fragments that are
    still to be read from the tap, the kernel has overwritten the addresses when it forwards them.
    """
    marks = road.mark()
    yield
    strays = [
        f"at {name}: {frame}"
        for name, tap in road.taps.items()
        for frame in tap.frames[marks[name] :]
        if not (name == "appliance" and frame.came_in) and is_foreign(frame)
    ]
    assert strays == []


def is_foreign(frame: Frame) -> bool:
    """Whether a packet has an address of the other network."""
    return any(address.startswith(FOREIGN[frame.network]) for address in addresses(frame.packet))


@pytest.fixture(params=LANES, ids=lambda lane: f"ipv{lane.version}")
def lane(request: pytest.FixtureRequest) -> Lane:
    """The addresses of each family in turn."""
    found: Lane = request.param
    return found


@pytest.fixture
def talk(road: Road, lane: Lane) -> Conversation:
    """A connection that has not begun, from a client that nobody has heard of yet."""
    return make_conversation(road, lane)
