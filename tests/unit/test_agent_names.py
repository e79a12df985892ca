"""Names: which addresses they stand for while resolving works, and while it does not."""

from __future__ import annotations

from ipaddress import ip_address

from paraglider.agent.names import Names, NameStatus, wanted_holds, wanted_names
from paraglider.config.model import Backend, Config, Endpoint, Family
from paraglider.health.resolver import Resolved
from tests.services import bind_at
from tests.unit.config_files import frontend_at

_BIND = Endpoint(ip_address("192.0.2.10"), 80)
_WEB = ("web", Family.IPV4)
_ONE, _TWO, _OLD = (ip_address(f"10.0.0.{number}") for number in (1, 2, 9))


def _config(*backends: Backend, **policy: float) -> Config:
    return Config("f", (frontend_at("f", _BIND, _BIND.address, backends, **policy),))


def _answer(*addresses: str, reason: str = "") -> Resolved:
    return Resolved(*_WEB, tuple(ip_address(address) for address in addresses), reason)


class Followed:
    """Names of a file with a hold, their log, and a clock that a test turns."""

    def __init__(self, hold_s: float = 30.0) -> None:
        self.now_s = 1000.0
        self.lines: list[str] = []
        self.names = Names(self.lines.append)
        self.config = _config(Backend("web", 80), hold_s=hold_s)
        self.names.follow(self.config)

    def note(self, resolved: Resolved) -> bool:
        """Take in an answer."""
        return self.names.note(resolved, self.now_s)

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines[:] = list(self.lines), []
        return lines

    def status(self) -> NameStatus:
        """Return how it stands with the name."""
        (status,) = self.names.statuses(self.config, self.now_s)
        return status


def test_an_answer_that_differs_changes_who_the_backends_are() -> None:
    """The same one again does not."""
    followed = Followed()
    assert followed.note(_answer("10.0.0.1"))
    assert not followed.note(_answer("10.0.0.1"))
    assert followed.note(_answer("10.0.0.1", "10.0.0.2", reason="left out: 127.0.0.1 is loopback"))
    assert followed.names.addresses == {_WEB: (_ONE, _TWO)}
    assert followed.lines == [
        "web (IPv4) resolves to 1 address: 10.0.0.1",
        "web (IPv4) resolves to 2 addresses: added 10.0.0.2; left out: 127.0.0.1 is loopback",
    ]


def test_an_address_that_is_missing_leaves_when_its_time_is_over() -> None:
    """The agent is told when that is, and the log says for how long it was missing."""
    followed = Followed()
    followed.note(_answer("10.0.0.1", "10.0.0.2"))
    followed.take()
    assert not followed.note(_answer("10.0.0.1"))
    assert (followed.take(), followed.names.next_s()) == ([], 1030.0)
    followed.now_s = 1010.0
    assert followed.status().missing_for_s == {_TWO: 10.0}
    assert not followed.names.expire(followed.now_s)
    followed.now_s = 1030.0
    assert followed.names.expire(followed.now_s)
    assert followed.names.addresses == {_WEB: (_ONE,)}
    removed = "removed 10.0.0.2, missing from answers for 30 s"
    assert followed.take() == [f"web (IPv4) resolves to 1 address: {removed}"]


def test_many_addresses_that_leave_are_one_line() -> None:
    """The first few, and how many more."""
    followed = Followed(hold_s=0.0)
    followed.note(_answer("10.0.0.1", *(f"10.0.1.{number}" for number in range(97))))
    followed.take()
    assert followed.note(_answer("10.0.0.1"))
    shown = "10.0.1.0, 10.0.1.1, 10.0.1.2, 10.0.1.3, 10.0.1.4 and 92 more"
    assert followed.take() == [f"web (IPv4) resolves to 1 address: removed {shown}"]


def test_answers_that_rotate_are_told_of_once() -> None:
    """Once all of them are known, nothing changes."""
    followed = Followed()
    changes = 0
    for number in range(100):
        changes += followed.note(_answer("10.0.0.1" if number % 2 else "10.0.0.2"))
        followed.now_s += 5.0
        changes += followed.names.expire(followed.now_s)
    assert (changes, len(followed.lines)) == (2, 2)


def test_a_name_that_stops_resolving_keeps_its_last_addresses() -> None:
    """Whether the lookup fails or finds nothing of use; the log has it once, the status the last
    reason, and since when."""
    followed = Followed()
    followed.note(_answer("10.0.0.1"))
    followed.take()
    assert not followed.note(Resolved(*_WEB, None, "timed out"))
    followed.now_s += 60.0
    assert not followed.note(_answer())
    assert followed.names.addresses == {_WEB: (_ONE,)}
    assert followed.take() == ["cannot look up web (IPv4): timed out; its addresses are kept"]
    status = followed.status()
    assert (status.error, status.error_for_s, status.addresses) == ("no addresses", 60.0, (_ONE,))
    assert not followed.note(_answer("10.0.0.1"))
    assert followed.take() == ["web (IPv4) resolves again to 1 address"]
    assert followed.status().error == ""


def test_a_name_that_never_resolved_has_no_backends() -> None:
    """Before its first answer there is nothing to say but that; a bad one is said to be one."""
    followed = Followed()
    assert (followed.status().error, followed.status().error_for_s) == ("no answer yet", None)
    assert followed.note(Resolved(*_WEB, None, "no such name"))
    assert followed.take() == ["cannot look up web (IPv4): no such name; it has no addresses"]
    assert followed.names.addresses == {}
    assert followed.note(_answer("10.0.0.1"))
    assert followed.take() == ["web (IPv4) resolves again to 1 address: 10.0.0.1"]


def test_a_name_that_fails_again_and_again_is_logged_once_a_minute() -> None:
    """With the end of what was logged; the status has each."""
    followed = Followed()
    followed.note(_answer("10.0.0.1"))
    followed.take()
    for _ in range(10):
        followed.note(Resolved(*_WEB, None, "timed out"))
        assert followed.status().error == "timed out"
        followed.note(_answer("10.0.0.1"))
        followed.now_s += 5.0
    assert followed.take() == [
        "cannot look up web (IPv4): timed out; its addresses are kept",
        "web (IPv4) resolves again to 1 address",
    ]
    followed.now_s += 60.0
    followed.note(Resolved(*_WEB, None, "timed out"))
    assert len(followed.take()) == 1


def test_a_name_that_left_the_file_is_forgotten() -> None:
    """Its addresses too: when it comes back it is waited for again."""
    followed = Followed()
    followed.note(_answer("10.0.0.1"))
    followed.names.follow(_config(Backend("other", 80)))
    assert followed.names.addresses == {}
    assert followed.names.is_waiting(followed.config)


def test_a_copy_goes_its_own_way() -> None:
    """It knows what was known, and what it learns stays its own."""
    followed = Followed()
    followed.note(_answer("10.0.0.1"))
    copy = followed.names.copy()
    assert not copy.is_waiting(followed.config)
    assert copy.note(_answer("10.0.0.2"), followed.now_s)
    assert copy.addresses == {_WEB: (_ONE, _TWO)}
    assert followed.names.addresses == {_WEB: (_ONE,)}


def test_names_are_waited_for_until_each_has_had_an_answer() -> None:
    """A bad one is an answer, too."""
    names = Names(lambda _: None)
    config = _config(Backend("web", 80))
    assert names.is_waiting(config)
    names.note(Resolved(*_WEB, None, "unknown"), 0.0)
    assert not names.is_waiting(config)


def test_a_name_that_does_not_resolve_adopts_the_backends_that_nothing_else_explains() -> None:
    """Those with its port that have connections, and are no other entry of the file."""
    names = Names(lambda _: None)
    config = _config(Backend("web", 80), Backend(_ONE, 80))
    serving = [
        (bind_at(_BIND), Endpoint(_ONE, 80)),
        (bind_at(_BIND), Endpoint(_OLD, 80)),
        (bind_at(_BIND), Endpoint(_TWO, 81)),
        (bind_at(Endpoint(_BIND.address, 81)), Endpoint(_TWO, 80)),
    ]
    names.adopt(config, serving)
    assert names.addresses == {_WEB: (_OLD,)}


def test_a_name_without_an_answer_stays_so_where_it_adopts_backends() -> None:
    """It has addresses then, and still no answer."""
    followed = Followed()
    followed.note(Resolved(*_WEB, None, "no such name"))
    followed.names.adopt(followed.config, [(bind_at(_BIND), Endpoint(_OLD, 80))])
    assert (followed.status().addresses, followed.status().error) == ((_OLD,), "no such name")


def test_backends_that_were_out_of_service_are_held_when_an_agent_begins() -> None:
    """Those that the first answer lacks and no other entry explains; they leave in time."""
    followed = Followed()
    config = _config(Backend("web", 80), Backend(_OLD, 80))
    followed.names.follow(config)
    followed.note(_answer("10.0.0.1"))
    out = [
        (bind_at(_BIND), Endpoint(address, port))
        for address, port in ((_ONE, 80), (_TWO, 80), (_OLD, 80), (_OLD, 81))
    ]
    followed.names.hold(config, out, followed.now_s)
    assert followed.names.addresses == {_WEB: (_ONE, _TWO)}
    assert followed.names.next_s() == 1030.0
    assert followed.names.expire(1030.0)
    assert followed.names.addresses == {_WEB: (_ONE,)}


def test_a_name_without_addresses_holds_nothing() -> None:
    """It adopts what serves; who was out of service has no part in that."""
    followed = Followed()
    followed.note(Resolved(*_WEB, None, "no such name"))
    pairs = [(bind_at(_BIND), Endpoint(_OLD, 80))]
    followed.names.hold(followed.config, pairs, followed.now_s)
    assert followed.names.addresses == {}


def test_the_longest_hold_of_those_that_share_a_name_counts() -> None:
    """No backend leaves sooner than its frontend wants."""
    (short,), (long,) = (
        _config(Backend("web", 80), hold_s=1.0).frontends,
        _config(Backend("web", 81), hold_s=60.0).frontends,
    )
    assert wanted_holds(Config("f", (short, long))) == {_WEB: 60.0}
    assert wanted_holds(Config("f", (long, short))) == {_WEB: 60.0}


def test_a_name_is_resolved_as_often_as_its_most_eager_frontend_wants() -> None:
    """Once for all of them."""
    (eager,), (lazy,) = (
        _config(Backend("web", 80), resolve_s=1.0).frontends,
        _config(Backend("web", 81)).frontends,
    )
    assert wanted_names(Config("f", (lazy, eager))) == {_WEB: 1.0}
