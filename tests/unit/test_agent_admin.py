"""The admin socket: who may ask, and what many clients at once cost."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paraglider.agent.admin import AdminServer, Reply, is_welcome
from paraglider.agent.client import ask_agent
from paraglider.agent.loop import Loop
from paraglider.agent.protocol import Answer, Request, decode_answer, encode
from paraglider.errors import UnavailableError


@pytest.mark.parametrize(
    ("peer_uid", "own_uid", "expected"),
    [(0, 65532, True), (1000, 65532, True), (65532, 65532, False), (0, 0, True), (1000, 0, True)],
)
def test_root_and_the_group_may_ask_and_the_prober_may_not(
    peer_uid: int, own_uid: int, expected: bool
) -> None:
    """In the container the prober has the agent's own user; the mode keeps out all others."""
    assert is_welcome(peer_uid, own_uid) is expected


ASK = encode(Request(command="status"))
# More than a unix socket's buffer takes.
LONG = "x" * 4_000_000


class Stage:
    """A server at `path` with a clock of its own, and clients in the same process."""

    def __init__(self, path: Path, loop: Loop, now_s: list[float]) -> None:
        self.path = str(path)
        self.loop = loop
        self.now_s = now_s
        self.asked: list[str] = []
        self.text = "fine"
        self.server = AdminServer(loop, self.path, self.answer, may_ask=lambda _: True)

    def answer(self, request: Request, reply: Reply) -> None:
        """Note that somebody asked."""
        self.asked.append(request.command)
        reply(Answer(0, self.text))

    def connect(self, said: bytes = b"") -> socket.socket:
        """Return a client that says this, and does not read."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        try:
            client.connect(self.path)
        except BlockingIOError:
            client.close()
            raise
        if said:
            client.send(said)
        return client

    def turn(self, times: int = 3) -> None:
        """Let the server do what is due, and a second pass each time."""
        for _ in range(times):
            self.loop.wait(self.now_s[0])
            self.loop.wait(self.now_s[0])
            self.now_s[0] += 1


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A server in a folder of its own."""
    now_s = [100.0]
    loop = Loop(clock=lambda: now_s[0])
    stage = Stage(tmp_path / "admin.sock", loop, now_s)
    yield stage
    stage.server.close()
    loop.close()


def read_answer(client: socket.socket, turn: Callable[[], None]) -> Answer:
    """Read to the end, with a turn of the server before each part."""
    line = b""
    with client:
        while True:
            turn()
            with contextlib.suppress(BlockingIOError):
                part = client.recv(1 << 20)
                if not part:
                    return decode_answer(line)
                line += part


def test_an_answer_that_nobody_reads_holds_up_nobody(stage: Stage) -> None:
    """The next client has its answer, and the slow one all of its own when it reads."""
    stage.text = LONG
    slow = stage.connect(ASK)
    stage.turn(1)
    stage.text = "fine"
    assert read_answer(stage.connect(ASK), lambda: stage.turn(1)) == Answer(0, "fine")
    assert read_answer(slow, lambda: stage.turn(1)) == Answer(0, LONG)


@pytest.mark.parametrize("said", [b"", ASK, ASK[:-1]], ids=["nothing", "a request", "a part"])
def test_two_hundred_clients_that_do_not_read_leave_place_for_one(
    stage: Stage, said: bytes
) -> None:
    """The oldest of them go."""
    stage.text = LONG
    crowd = []
    for _ in range(200):
        crowd.append(stage.connect(said))
        if len(crowd) % 5 == 0:
            stage.turn()
    stage.text = "fine"
    assert read_answer(stage.connect(ASK), lambda: stage.turn(1)) == Answer(0, "fine")
    for client in crowd:
        client.close()


@contextlib.contextmanager
def no_file_descriptors() -> Iterator[None]:
    """Let this process open no file inside the `with`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                opened.enter_context(open(os.devnull))
        yield


def test_without_file_descriptors_a_client_is_told_so(stage: Stage) -> None:
    """And the socket rests until the next look: the loop has nothing to do meanwhile."""
    clients = [stage.connect(ASK) for _ in range(3)]
    with no_file_descriptors():
        stage.loop.wait(stage.now_s[0])
    reason = [read_answer(client, stage.turn) for client in clients]
    assert {answer.exit_code for answer in reason} == {69}
    assert "no file descriptors are left" in reason[0].text
    assert stage.asked == []


def test_a_lost_spare_descriptor_is_opened_again(tmp_path: Path) -> None:
    """A server made when none was left refuses with the reason, once some were free between."""
    now_s = [100.0]
    loop = Loop(clock=lambda: now_s[0])
    listener = Stage(tmp_path / "admin.sock", loop, now_s)
    listener.server._close_spare()  # as a shortage leaves it
    listener.connect(ASK).close()
    listener.turn(1)
    client = listener.connect(ASK)
    with no_file_descriptors():
        loop.wait(now_s[0])
    assert read_answer(client, listener.turn).exit_code == 69
    listener.server.close()
    loop.close()


def test_a_client_that_cannot_be_watched_is_let_go(stage: Stage) -> None:
    """The loop refuses (ENOSPC); nothing is left of the client, and the next one is answered."""
    watch, refusals = stage.loop.watch, [OSError(28, "No space left on device")]

    def refuse_once(*arguments: object, **options: object) -> None:
        if refusals:
            raise refusals.pop()
        watch(*arguments, **options)  # type: ignore[arg-type]

    stage.loop.watch = refuse_once  # type: ignore[method-assign]
    refused = stage.connect(ASK)
    stage.turn(1)
    with refused, pytest.raises(ConnectionResetError):
        refused.recv(1)
    assert read_answer(stage.connect(ASK), lambda: stage.turn(1)) == Answer(0, "fine")


def test_looks_at_the_same_moment_share_an_answer(stage: Stage) -> None:
    """A flood of them costs one; an order in between makes the next look a new one."""
    clients = [stage.connect(ASK) for _ in range(5)]
    stage.loop.wait(stage.now_s[0])
    assert stage.asked == ["status"]
    orders = [stage.connect(encode(Request(command="reload"))), stage.connect(ASK)]
    stage.now_s[0] += 0.09
    stage.turn(1)
    stage.turn(1)
    assert stage.asked == ["status", "reload", "status"]
    for client in (*clients, *orders):
        client.close()


def test_a_full_queue_is_not_told_as_missing_rights(tmp_path: Path) -> None:
    """It is told as what it is."""
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as client:
        full.bind(path)
        full.listen(0)
        client.connect(path)
        with pytest.raises(UnavailableError, match="too many clients wait for it") as caught:
            ask_agent(path, Request(command="status"), wait_s=0.1)
    assert "its socket is for root" not in str(caught.value)


def is_closed(client: socket.socket) -> bool:
    """Read what is there, and return whether the server has closed the connection."""
    with contextlib.suppress(BlockingIOError):
        while client.recv(1 << 20):
            pass
        return True
    return False


@pytest.mark.parametrize("said", [b"", ASK[:-1], ASK], ids=["nothing", "a part", "and not read"])
def test_a_client_that_does_not_go_on_is_closed(stage: Stage, said: bytes) -> None:
    """At the time that `next_s` says, and not before."""
    stage.text = LONG
    with stage.connect(said) as client:
        stage.turn(1)
        late_s = stage.server.next_s()
        assert late_s is not None
        others = len(os.listdir("/proc/self/fd"))
        stage.now_s[0] = late_s - 0.5
        stage.server.look()
        assert len(os.listdir("/proc/self/fd")) == others
        stage.now_s[0] = late_s + 5.0
        stage.server.look()
        assert len(os.listdir("/proc/self/fd")) == others - 1
        assert is_closed(client)
    assert stage.server.next_s() is None


def test_a_client_that_reads_slowly_has_its_whole_answer(stage: Stage) -> None:
    """Each part that it takes gives it time for the next."""
    stage.text = LONG

    def turn() -> None:
        stage.turn(1)
        stage.now_s[0] += 3.5
        stage.server.look()

    assert read_answer(stage.connect(ASK), turn) == Answer(0, LONG)


def test_a_client_that_waits_for_its_answer_is_not_closed(stage: Stage) -> None:
    """An order may take longer than a client has to ask."""
    replies: list[Reply] = []
    stage.server._answer = lambda _, reply: replies.append(reply)
    client = stage.connect(encode(Request(command="drain")))
    stage.turn(1)
    stage.now_s[0] += 60
    stage.server.look()
    replies[0](Answer(0, "drains"))
    assert read_answer(client, lambda: stage.turn(1)) == Answer(0, "drains")


def test_what_clients_do_not_read_is_bounded(stage: Stage) -> None:
    """Of four different answers of 10 MB those of the oldest client go."""
    clients = []
    for number in range(4):
        stage.text = str(number) * 10_000_000
        clients.append(stage.connect(encode(Request(command="reload"))))
        stage.loop.wait(stage.now_s[0])
        stage.now_s[0] += 0.2
        stage.loop.wait(stage.now_s[0])
    assert [is_closed(client) for client in clients] == [True, False, False, False]
    for client in clients:
        client.close()


def test_an_answer_that_many_do_not_read_is_kept_once(stage: Stage) -> None:
    """So it is within the bound, and all of them have it."""
    stage.text = "x" * 10_000_000
    clients = [stage.connect(ASK) for _ in range(5)]
    stage.turn(1)
    assert stage.asked == ["status"]
    for client in clients:
        assert read_answer(client, lambda: stage.turn(1)) == Answer(0, stage.text)


def test_looks_that_come_while_one_is_answered_wait_for_the_same(stage: Stage) -> None:
    """The kernel is read once for all of them."""
    replies: list[Reply] = []
    stage.server._answer = lambda _, reply: replies.append(reply)
    first = stage.connect(ASK)
    stage.turn(1)
    second = stage.connect(ASK)
    stage.turn(1)
    assert len(replies) == 1
    replies[0](Answer(0, "fine"))
    for client in (first, second):
        assert read_answer(client, lambda: stage.turn(1)) == Answer(0, "fine")


def test_a_flood_of_looks_costs_one_a_second(stage: Stage) -> None:
    """After the first twenty; when it is over, answers are new again."""
    for _ in range(600):
        stage.connect(ASK).close()
        stage.loop.wait(stage.now_s[0])
        stage.now_s[0] += 0.11
        stage.loop.wait(stage.now_s[0])
    assert 60 <= len(stage.asked) <= 20 + 66 + 1
    stage.now_s[0] += 20
    before = len(stage.asked)
    for _ in range(10):
        stage.connect(ASK).close()
        stage.loop.wait(stage.now_s[0])
        stage.now_s[0] += 0.11
        stage.loop.wait(stage.now_s[0])
    assert len(stage.asked) == before + 10


def test_connections_are_accepted_at_a_pace(stage: Stage) -> None:
    """What comes more often than every 0.1 s waits in the queue."""
    order = encode(Request(command="reload"))
    clients = [stage.connect(order) for _ in range(5)]
    stage.loop.wait(stage.now_s[0])
    assert len(stage.asked) == 5
    clients += [stage.connect(order) for _ in range(5)]
    stage.loop.wait(stage.now_s[0])
    assert len(stage.asked) == 5
    with pytest.raises(BlockingIOError):
        clients.append(stage.connect(order))
    stage.now_s[0] += 0.11
    stage.loop.wait(stage.now_s[0])
    stage.loop.wait(stage.now_s[0])
    assert len(stage.asked) == 10
    for client in clients:
        client.close()
