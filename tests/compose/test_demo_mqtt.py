"""compose/mqtt: Debian's Mosquitto, whose clients connect once and stay."""

from __future__ import annotations

from collections import Counter

from tests.compose.demos import Demo, rows
from tests.compose.engine import Container

DEMO = "mqtt"
HOST = "10.77.7.2"
BROKERS = ("hub", "left", "right")
LEFT = "10.77.8.11"


def received(printed: str) -> list[tuple[str, str]]:
    """Return broker and number of messages of each subscriber in the client's table, sorted.

    ``1   hub                      6``
    """
    lines = rows(printed)
    start = lines.index(["subscriber", "broker", "messages", "received"]) + 1
    assert [line[0] for line in lines[start:]] == ["1", "2", "3", "4", "5", "6"]
    return sorted((line[1], line[2]) for line in lines[start:])


def test_subscribers_are_spread_and_hear_everything(demo: Demo) -> None:
    """Each broker has two of six subscribers, and each of them receives all six messages."""
    assert received(demo.stack.run("client")) == sorted([(name, "6") for name in BROKERS] * 2)


def test_subscribers_stay_when_their_broker_leaves_the_file(demo: Demo) -> None:
    """Nobody connects again, and every message arrives once; new subscribers go to the rest, and to
    all again when it is back."""
    subscribers = [subscribe(demo) for _ in range(6)]
    assert Counter(broker_of(one) for one in subscribers) == dict.fromkeys(BROKERS, 2)
    publish(demo, 1, 9)
    with demo.without(LEFT):
        publish(demo, 10, 18)
        others = [("hub", "6"), ("right", "6")]
        assert received(demo.stack.run("client")) == sorted(others * 3)
    assert received(demo.stack.run("client")) == sorted([(name, "6") for name in BROKERS] * 2)
    publish(demo, 19, 27)
    expected = sorted(f"news/count {number}" for number in range(1, 28))
    for one in subscribers:
        one.wait_until_it_says("news/count 27")
        lines = one.logs().splitlines()
        assert sorted(line for line in lines if line.startswith("news/count")) == expected
        # A subscriber that connects again is told the name of a broker again.
        assert len([line for line in lines if line.startswith("broker ")]) == 1


def subscribe(demo: Demo) -> Container:
    """Start a subscriber in a container of its own; return it when it knows its broker."""
    network = f"--network={demo.stack.project}_clients"
    command = ("mosquitto_sub", "-h", HOST, "-t", "broker", "-t", "news/#", "-v")
    subscriber = demo.stack.engine.start("--init", network, "paraglider-mqtt", *command)
    subscriber.wait_until_it_says("broker ")
    return subscriber


def broker_of(subscriber: Container) -> str:
    """Return the broker that a subscriber was given."""
    return subscriber.logs().split()[1]


def publish(demo: Demo, first: int, last: int) -> None:
    """Publish the numbers from first to last, over a connection each."""
    each = f"mosquitto_pub -h {HOST} -q 1 -t news/count -m"
    demo.stack.run("client", f"sh -ec 'for n in $(seq {first} {last}); do {each} $n; done'")


def test_the_brokers_run_as_an_ordinary_user(demo: Demo) -> None:
    """Debian's own user, not root."""
    users = {demo.stack.container(name).execute("id", "-un") for name in BROKERS}
    assert users == {"mosquitto\n"}
