"""compose/redis: Debian's Redis behind two frontends, read and written with redis-cli."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from tests.compose.demos import Demo, rows
from tests.compose.engine import converse

DEMO = "redis"
WRITE, READ = 6379, 6380
REPLICAS = ("10.77.6.11:6379", "10.77.6.12:6379", "10.77.6.13:6379")
PRIVATEIP = "10.77.6.4"


@dataclass(frozen=True, slots=True)
class Session:
    """A redis-cli that stays connected."""

    commands: IO[str]
    replies: IO[str]

    def ask(self, command: str) -> str:
        """Send a command; return the first line of the reply."""
        self.commands.write(f"{command}\n")
        self.commands.flush()
        return self.replies.readline().rstrip("\n")

    def info(self) -> dict[str, str]:
        """Return what the server says of the connection: ``id``, ``laddr``, ``age`` and more."""
        fields = (field.partition("=") for field in self.ask("CLIENT INFO").split())
        return {name: value for name, _, value in fields}


@contextmanager
def open_session(demo: Demo, port: int) -> Iterator[Session]:
    """Connect through the appliance, from a container of its own."""
    stack = demo.stack
    run = ["docker", "run", "--rm", "--interactive", "--label", stack.engine.label]
    network = f"--network={stack.project}_clients"
    command = ("redis-cli", "-h", "10.77.5.2", "-p", str(port))
    with converse(*run, network, "paraglider-redis", *command) as (commands, replies):
        yield Session(commands, replies)


def shares(printed: str) -> dict[str, tuple[str, str]]:
    """Return reads and peer of each replica in the client's table, whose values must be one.

    ``10.77.6.11:6379    100   10.77.6.4           hello at 15:51:17``
    """
    lines = rows(printed)
    start = lines.index(["replica", "reads", "peer", "address", "seen", "value"]) + 1
    assert len({tuple(line[3:]) for line in lines[start:]}) == 1
    return {line[0]: (line[1], line[2]) for line in lines[start:]}


def test_each_replica_answers_a_third(demo: Demo) -> None:
    """Of 300 reads each replica answers 100, with what was just written, and sees the privateip."""
    printed = demo.stack.run("client")
    assert shares(printed) == dict.fromkeys(REPLICAS, ("100", PRIVATEIP))
    written = printed.splitlines()[0].split('"')[1]
    assert printed.count(written) == 1 + len(REPLICAS)


def test_sessions_stay_when_their_replica_leaves_the_file(demo: Demo) -> None:
    """A session of each replica goes on, on the same connection; new ones are shared by the rest,
    and by all again when it is back."""
    with ExitStack() as exits:
        sessions = [exits.enter_context(open_session(demo, READ)) for _ in REPLICAS]
        before = [session.info() for session in sessions]
        assert sorted(info["laddr"] for info in before) == list(REPLICAS)
        with demo.without("10.77.6.11"):
            rest = dict.fromkeys(REPLICAS[1:], ("150", PRIVATEIP))
            assert shares(demo.stack.run("client")) == rest
            during = [session.info() for session in sessions]
        assert shares(demo.stack.run("client")) == dict.fromkeys(REPLICAS, ("100", PRIVATEIP))
        after = [session.info() for session in sessions]
    for one in (during, after):
        assert [same(info) for info in one] == [same(info) for info in before]
    # redis-cli connects again by itself: then the age would begin again.
    assert all(int(now["age"]) > int(then["age"]) for now, then in zip(after, before, strict=True))


def same(info: dict[str, str]) -> tuple[str, str, str]:
    """Return what names a connection: server, number there, and peer with its port."""
    return info["laddr"], info["id"], info["addr"]


def test_only_the_primary_is_written_to(demo: Demo) -> None:
    """One port leads to the server that takes writes, the other to those that refuse them."""
    with open_session(demo, WRITE) as primary:
        assert primary.ask("SET colour red") == "OK"
        assert primary.info()["laddr"] == "10.77.6.10:6379"
    with open_session(demo, READ) as replica:
        assert replica.ask("SET colour blue").startswith("READONLY")


def test_the_servers_run_as_an_ordinary_user(demo: Demo) -> None:
    """Debian's own user, not root."""
    servers = ("primary", "replica1", "replica2", "replica3")
    users = {demo.stack.container(name).execute("id", "-un") for name in servers}
    assert users == {"redis\n"}
