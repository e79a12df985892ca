"""The board: what is known, and who serves because of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from paraglider.config.model import Backend, Config, Endpoint, Family, NoBackend, Quorum
from paraglider.health.board import Change
from paraglider.health.memory import Memory
from paraglider.health.service import Health, Member, Share
from tests.unit.health_boards import (
    BIND,
    NO_CHECK,
    OTHER_BIND,
    PRIVATEIP,
    STARTS_DOWN,
    Boarded,
    endpoint_of,
    key_of,
    shop,
    web,
)

SERVE_ALL = NoBackend.SERVE_ALL


# -- probes --


def test_new_backends_serve_until_they_are_found_to_be_down() -> None:
    """Whoever starts a balancer wants to be served at once."""
    assert Boarded(web("abc")).serving() == "abc"


def test_new_backends_do_not_serve_where_the_file_says_so() -> None:
    """Some would rather wait until a backend has shown that it can."""
    boarded = Boarded(web("ab", check=STARTS_DOWN))
    boarded.probe("b", "++")
    assert boarded.serving() == "b"


def test_a_backend_that_went_down_does_not_serve() -> None:
    """The others take what it got."""
    boarded = Boarded(web("abc"))
    boarded.probe("b", "---")
    assert boarded.serving() == "ac"


def test_a_backend_that_came_up_serves_again() -> None:
    """In its place."""
    boarded = Boarded(web("abc"))
    boarded.probe("b", "---++")
    assert boarded.serving() == "abc"


def test_a_change_says_what_was_found() -> None:
    """It is what the log tells."""
    boarded = Boarded(web("a"))
    why = "3 bad probes in a row, the last: refused"
    expected = Change(key_of("a"), "web", Health.UNKNOWN, Health.DOWN, why)
    assert boarded.probe("a", "+---") == [expected]


def test_a_change_by_a_single_probe_says_what_that_found() -> None:
    """Those before it were of the other kind."""
    boarded = Boarded(web("a", check=replace(STARTS_DOWN, fall=1)))
    assert [change.why for change in boarded.probe("a", "+-")] == ["refused"]


def test_what_is_known_of_a_member_can_be_shown() -> None:
    """What its last probe said, how many in a row, and since when it is what it is."""
    boarded = Boarded(web("a"))
    boarded.now_s = 1010
    boarded.probe("a", "++")
    boarded.now_s = 1020
    boarded.probe("a", "--")
    standing = boarded.board.views()[0].members[endpoint_of("a")]
    found = (standing.health, standing.track.streak, standing.told, standing.since_s)
    assert found == (Health.UP, -2, "refused", 1010)


def test_a_backend_without_a_check_is_up() -> None:
    """Nobody looks, so nobody finds it down."""
    assert Boarded(web("a", check=NO_CHECK)).health("a") is Health.UP


@pytest.mark.parametrize("letter", ["x", "c"])
def test_results_of_strangers_change_nothing(letter: str) -> None:
    """A probe may end after its backend was taken from the file."""
    boarded = Boarded(web("abc"))
    boarded.configure(web("ab"))
    assert boarded.probe(letter, "---") == []


# -- orders --


def test_a_draining_backend_gets_nothing_new() -> None:
    """It has a deadline if one was given."""
    boarded = Boarded(web("ab"))
    change = boarded.board.drain(key_of("a"), 1_766_000_000, 1000)
    assert change
    assert boarded.serving() == "b"
    member = Member(endpoint_of("a"), Health.DRAINING, 1_766_000_000)
    assert boarded.service().members[0] == member


def test_a_new_deadline_takes_the_place_of_the_old_one() -> None:
    """It is a change though the health stays the same."""
    boarded = Boarded(web("ab"))
    boarded.board.drain(key_of("a"), 10, 1000)
    change = boarded.board.drain(key_of("a"), None, 1000)
    assert change
    assert boarded.service().members[0].until_s is None


def test_what_a_draining_backend_does_is_seen_when_it_comes_back() -> None:
    """Probes go on; who drained because it was ill may not be well."""
    boarded = Boarded(web("ab"))
    boarded.board.drain(key_of("a"), None, 1000)
    found = boarded.probe("a", "---")
    assert [(c.before, c.after) for c in found] == [(Health.UNKNOWN, Health.DOWN)]
    assert boarded.health("a") is Health.DRAINING
    boarded.board.undrain(key_of("a"), 1000)
    assert boarded.health("a") is Health.DOWN


def test_a_disabled_backend_gets_neither_connections_nor_probes() -> None:
    """And a probe that was under way is not heard."""
    boarded = Boarded(web("ab"))
    boarded.board.disable(key_of("a"), 1000)
    assert boarded.serving() == "b"
    assert [key for key, _, _ in boarded.board.probed()] == [key_of("b")]
    assert boarded.probe("a", "---") == []


@pytest.mark.parametrize(
    ("results", "health"), [("++", Health.UNKNOWN), ("", Health.UNKNOWN), ("---", Health.DOWN)]
)
def test_an_enabled_backend_begins_anew_unless_it_was_down(results: str, health: Health) -> None:
    """What was found before is old."""
    boarded = Boarded(web("ab"))
    boarded.probe("a", results)
    boarded.board.disable(key_of("a"), 1000)
    boarded.board.enable(key_of("a"), 1000)
    assert boarded.health("a") is health


def test_an_enabled_backend_without_a_check_is_up() -> None:
    """As it was before."""
    boarded = Boarded(web("ab", check=NO_CHECK))
    boarded.board.disable(key_of("a"), 1000)
    boarded.board.enable(key_of("a"), 1000)
    assert boarded.health("a") is Health.UP


def test_the_deadline_of_a_drain_ends_with_it() -> None:
    """Nothing is to be cut any more."""
    boarded = Boarded(web("ab"))
    boarded.board.drain(key_of("a"), 10, 1000)
    boarded.board.undrain(key_of("a"), 1000)
    assert boarded.service().members[0] == Member(endpoint_of("a"))


@pytest.mark.parametrize("orders", ["undrain", "enable", "drain enable", "disable undrain"])
def test_an_order_ends_by_its_own_counterpart_alone(orders: str) -> None:
    """`enable` ends no drain, and `undrain` enables nobody."""
    boarded = Boarded(web("ab"))
    board, key = boarded.board, key_of("a")
    calls = {
        "drain": lambda: board.drain(key, None, 1000),
        "undrain": lambda: board.undrain(key, 1000),
        "disable": lambda: board.disable(key, 1000),
        "enable": lambda: board.enable(key, 1000),
    }
    assert [calls[order]() for order in orders.split()][-1] is None


@pytest.mark.parametrize(("first", "last"), [("drain", "disable"), ("disable", "drain")])
def test_the_last_order_holds(first: str, last: str) -> None:
    """There is one at a time, as there is one note of it in the rules."""
    boarded = Boarded(web("ab"))
    for order in (first, last):
        if order == "drain":
            boarded.board.drain(key_of("a"), 10, 1000)
        else:
            boarded.board.disable(key_of("a"), 1000)
    member = boarded.service().members[0]
    expected = {"disable": (Health.DISABLED, None), "drain": (Health.DRAINING, 10)}
    assert (member.health, member.until_s) == expected[last]


def test_orders_to_strangers_are_none() -> None:
    """Whoever asks has looked before who there is."""
    assert Boarded(web("ab")).board.disable(key_of("x"), 1000) is None


# -- backups, quorum, nobody --


def test_backups_serve_while_no_other_can() -> None:
    """All of them together."""
    boarded = Boarded(web("ab", "yz"))
    assert boarded.serving() == "ab"
    boarded.probe("a", "---")
    boarded.probe("b", "---")
    assert boarded.serving() == "yz"


def test_nobody_serves_where_all_are_down() -> None:
    """The rules then refuse."""
    boarded = Boarded(web("a", "z"))
    boarded.probe("a", "---")
    boarded.probe("z", "---")
    assert boarded.serving() == ""


def test_all_serve_where_all_are_down_and_the_file_wants_that() -> None:
    """A check that is wrong then costs nothing; but whoever is out by order stays out."""
    boarded = Boarded(replace(web("abc", "z"), no_backend=SERVE_ALL))
    for letter in "abz":
        boarded.probe(letter, "---")
    boarded.board.disable(key_of("c"), 1000)
    assert boarded.serving() == "ab"


def test_backups_serve_where_no_other_may() -> None:
    """They are the last that there are, even down."""
    boarded = Boarded(replace(web("a", "yz"), no_backend=SERVE_ALL))
    boarded.board.drain(key_of("a"), None, 1000)
    for letter in "yz":
        boarded.probe(letter, "---")
    assert boarded.serving() == "yz"


@pytest.mark.parametrize(
    ("downs", "ups", "serving"),
    [
        ("a", "", "bcde"),
        ("ab", "", "cde"),
        ("abc", "", "de"),  # below live, but not below live - hysteresis
        ("abcd", "", "z"),
        ("abcd", "a", "z"),
        ("abcd", "ab", "z"),  # live, but not live + hysteresis
        ("abcd", "abc", "abce"),
    ],
)
def test_a_quorum_is_lost_late_and_reached_again_late(downs: str, ups: str, serving: str) -> None:
    """So that one backend that comes and goes does not move all connections each time."""
    boarded = Boarded(replace(web("abcde", "z"), quorum=Quorum(live=3, hysteresis=1)))
    for letter in downs:
        boarded.probe(letter, "---")
    for letter in ups:
        boarded.probe(letter, "++")
    assert boarded.serving() == serving


def test_too_few_are_not_used() -> None:
    """One that would get the connections of three would not last."""
    boarded = Boarded(replace(web("abc"), quorum=Quorum(live=2)))
    boarded.probe("a", "---")
    boarded.probe("b", "---")
    assert boarded.serving() == ""


def test_nobody_is_no_quorum() -> None:
    """Where the hysteresis is as large as the quorum, too."""
    boarded = Boarded(replace(web("a", "z"), quorum=Quorum(live=1, hysteresis=1)))
    boarded.probe("a", "---")
    assert boarded.serving() == "z"


def test_a_quorum_can_be_reached_by_all_that_there_are() -> None:
    """Also where live + hysteresis is more than that."""
    boarded = Boarded(replace(web("ab", "z"), quorum=Quorum(live=2, hysteresis=1)))
    for letter in "ab":
        boarded.probe(letter, "---")
    for letter in "ab":
        boarded.probe(letter, "++")
    assert boarded.serving() == "ab"


# -- slow start --


@pytest.mark.parametrize(
    ("after_s", "percent"), [(0, 1), (0.9, 1), (1, 5), (10.5, 50), (19, 95), (20, 100), (99, 100)]
)
def test_a_backend_that_came_back_starts_slowly(after_s: float, percent: int) -> None:
    """In a line, in steps."""
    boarded = Boarded(replace(web("ab"), slow_start_s=20.0))
    boarded.probe("a", "---++")
    boarded.now_s += after_s
    assert boarded.percents() == {"a": percent, "b": 100}


@pytest.mark.parametrize("results", ["", "++"])
def test_a_backend_that_was_not_down_does_not_start_slowly(results: str) -> None:
    """Nobody else would take what it leaves."""
    boarded = Boarded(replace(web("ab"), slow_start_s=20.0))
    boarded.probe("a", results)
    assert boarded.percents() == {"a": 100, "b": 100}


def test_a_backend_that_was_enabled_does_not_start_slowly() -> None:
    """Whoever orders that it serves wants it to."""
    boarded = Boarded(replace(web("ab"), slow_start_s=20.0))
    boarded.probe("a", "---++")
    boarded.board.disable(key_of("a"), 1000)
    boarded.board.enable(key_of("a"), 1000)
    assert boarded.percents() == {"a": 100, "b": 100}


def test_of_those_that_start_slowly_the_first_gets_a_full_share() -> None:
    """Somebody must take what the others leave."""
    boarded = Boarded(replace(web("ab"), slow_start_s=20.0))
    boarded.probe("a", "---++")
    boarded.probe("b", "---")
    boarded.now_s += 4
    boarded.probe("b", "++")
    boarded.now_s += 4
    assert boarded.percents() == {"a": 100, "b": 50}


def test_where_all_must_serve_nobody_starts_slowly() -> None:
    """Those that are down would get more than the one that is up."""
    frontend = replace(web("ab"), slow_start_s=20.0, no_backend=SERVE_ALL, quorum=Quorum(live=2))
    boarded = Boarded(frontend)
    boarded.probe("a", "---++")
    boarded.probe("b", "---")
    assert boarded.percents() == {"a": 100, "b": 100}


@pytest.mark.parametrize(("after_s", "next_s"), [(0, 1001), (1, 1002), (19.5, 1020), (20, None)])
def test_the_board_says_when_a_share_grows(after_s: float, next_s: float | None) -> None:
    """Whoever asks has the timer."""
    boarded = Boarded(replace(web("ab"), slow_start_s=20.0))
    boarded.probe("a", "---++")
    assert boarded.board.next_change_s(1000 + after_s) == next_s


def test_nothing_changes_by_time_where_nobody_starts_slowly() -> None:
    """Nobody has to wake up."""
    boarded = Boarded(web("ab"))
    boarded.probe("a", "---++")
    assert boarded.board.next_change_s(boarded.now_s) is None


# -- files --


def test_the_same_file_changes_nothing() -> None:
    """A reload is no event."""
    boarded = Boarded(web("ab", "z"), shop("a"))
    boarded.probe("a", "--")
    before = boarded.board.views()
    boarded.now_s += 5
    assert boarded.configure(web("ab", "z"), shop("a")) == []
    assert boarded.board.views() == before


def test_whoever_is_not_in_the_file_any_more_leaves() -> None:
    """Its connections go on, in the same frontend."""
    boarded = Boarded(web("abc"))
    changes = boarded.configure(web("ac"))
    why = "it is not configured any more"
    assert changes == [Change(key_of("b"), "web", Health.UNKNOWN, Health.DRAINING, why)]
    assert boarded.serving() == "ac"
    assert boarded.service().members[-1] == Member(endpoint_of("b"), Health.DRAINING)


def test_whoever_left_and_has_no_connections_is_gone() -> None:
    """The agent counts them."""
    boarded = Boarded(web("abc"))
    boarded.configure(web("ac"))
    for key in boarded.board.leaving():
        boarded.board.forget(key)
    assert [member.backend for member in boarded.service().members] == [*map(endpoint_of, "ac")]


def test_whoever_is_in_the_file_is_not_forgotten() -> None:
    """A count may come too late."""
    boarded = Boarded(web("ab"))
    boarded.board.forget(key_of("a"))
    assert boarded.serving() == "ab"


def test_whoever_comes_back_is_what_it_was() -> None:
    """A file with a mistake may be followed by the one before it."""
    boarded = Boarded(web("ab"))
    boarded.probe("b", "---")
    boarded.configure(web("a"))
    changes = boarded.configure(web("ab"))
    why = "it is configured again"
    assert changes == [Change(key_of("b"), "web", Health.DRAINING, Health.DOWN, why)]


def test_whoever_drains_by_order_leaves_by_its_deadline() -> None:
    """To take it from the file gives it no more time."""
    boarded = Boarded(web("ab"))
    boarded.board.drain(key_of("b"), 10, 1000)
    boarded.configure(web("a"))
    assert boarded.service().members[-1] == Member(endpoint_of("b"), Health.DRAINING, 10)


def test_whoever_drains_and_leaves_has_another_reason_to_drain() -> None:
    """It is told, though the health is the same."""
    boarded = Boarded(web("ab"))
    boarded.board.drain(key_of("b"), 10, 1000)
    changes = boarded.configure(web("a"))
    assert [change.why for change in changes] == ["it is not configured any more"]


def test_an_address_that_a_name_has_lost_leaves() -> None:
    """So that a service can be scaled down."""
    named = replace(web("a"), backends=(Backend("pool", 8080),))
    two = {("pool", Family.IPV4): [endpoint_of(letter).address for letter in "ab"]}
    one = {("pool", Family.IPV4): [endpoint_of("a").address]}
    boarded = Boarded()
    boarded.configure(named, addresses=two)
    changes = boarded.configure(named, addresses=one)
    assert [(c.key, c.why) for c in changes] == [
        (key_of("b"), "pool does not stand for it any more")
    ]


def test_a_frontend_that_is_not_in_the_file_any_more_leaves() -> None:
    """It comes last, serves nobody, and its name is free."""
    boarded = Boarded(web("ab"), shop("a"))
    boarded.configure(replace(shop("a"), name="web"))
    assert [s.bind for s in boarded.board.services(1000)] == [OTHER_BIND, BIND]
    service = boarded.service()
    assert (service.is_leaving, service.name, service.serving) == (True, str(BIND), ())
    assert {member.health for member in service.members} == {Health.DRAINING}


def test_members_leave_a_frontend_by_the_name_that_it_had() -> None:
    """What has no name any more nobody would find in a log."""
    boarded = Boarded(web("a"), shop("a"))
    assert [change.frontend for change in boarded.configure(shop("a"))] == ["web"]


def test_a_frontend_without_members_is_gone_at_once() -> None:
    """Its name never stood for anybody, so that nobody can have connections."""
    boarded = Boarded(replace(web("a"), backends=(Backend("pool", 8080),)), shop("a"))
    boarded.configure(shop("a"))
    assert [service.bind for service in boarded.board.services(1000)] == [OTHER_BIND]


def test_a_frontend_is_gone_with_the_last_of_its_members() -> None:
    """Nothing is left to be kept for it."""
    boarded = Boarded(web("ab"), shop("a"))
    boarded.configure(shop("a"))
    for letter in "ab":
        boarded.board.forget(key_of(letter))
    assert [service.bind for service in boarded.board.services(1000)] == [OTHER_BIND]


def test_a_frontend_with_another_name_is_the_same() -> None:
    """Clients know its address and port."""
    boarded = Boarded(web("ab"))
    boarded.probe("a", "---")
    boarded.configure(replace(web("ab"), name="www"))
    assert boarded.service().name == "www"
    assert boarded.serving() == "b"


def test_another_order_in_the_file_is_another_order_of_service() -> None:
    """Rules are the same for the same file, whatever was before."""
    boarded = Boarded(web("abc"))
    boarded.configure(web("cab"))
    assert boarded.serving() == "cab"


def test_a_backend_that_loses_its_check_is_up() -> None:
    """Nobody would ever find that it is."""
    boarded = Boarded(web("ab"))
    boarded.probe("a", "---")
    changes = boarded.configure(web("ab", check=NO_CHECK))
    assert [c.why for c in changes] == ["it is not checked any more"] * 2
    assert boarded.serving() == "ab"
    assert boarded.board.views()[0].members[endpoint_of("a")].told == ""


def test_a_backend_that_gets_a_check_serves_on() -> None:
    """Also if new ones have to wait: a reload must not take all away."""
    boarded = Boarded(web("ab", check=NO_CHECK))
    boarded.configure(web("ab", check=STARTS_DOWN))
    assert boarded.serving() == "ab"


def test_another_check_counts_anew() -> None:
    """Two refused at one port are no reason to go down for one at another."""
    boarded = Boarded(web("ab"))
    boarded.probe("a", "--")
    boarded.configure(web("ab", check=replace(STARTS_DOWN, starts_up=True, port=9000)))
    assert boarded.probe("a", "--") == []


# -- memory --


@pytest.mark.parametrize(
    ("memory", "health"),
    [
        (Memory(), Health.UNKNOWN),
        (Memory(serving=frozenset([key_of("a")])), Health.UP),
        (Memory(down=frozenset([key_of("a")])), Health.DOWN),
        (Memory(down=frozenset([key_of("a")]), serving=frozenset([key_of("a")])), Health.DOWN),
        (Memory(disabled=frozenset([key_of("a")])), Health.DISABLED),
        (Memory(draining={key_of("a"): None}), Health.DRAINING),
    ],
)
def test_a_restarted_agent_knows_what_the_rules_remember(memory: Memory, health: Health) -> None:
    """Nobody is taken for unknown, or given connections, because the agent was away."""
    assert Boarded(web("ab"), memory=memory).health("a") is health


def test_a_deadline_outlives_the_agent() -> None:
    """It is of the wall clock."""
    boarded = Boarded(web("ab"), memory=Memory(draining={key_of("a"): 10}))
    assert boarded.service().members[0].until_s == 10


@pytest.mark.parametrize(
    "memory",
    [
        Memory(draining={key_of("c"): None}),
        Memory(serving=frozenset([key_of("c")])),
        Memory(down=frozenset([key_of("c")])),
        Memory(disabled=frozenset([key_of("c")])),
    ],
)
def test_whoever_is_remembered_and_not_in_the_file_is_leaving(memory: Memory) -> None:
    """It may have connections."""
    boarded = Boarded(web("ab"), memory=memory)
    assert boarded.board.leaving() == [key_of("c")]
    assert boarded.health("c") is Health.DRAINING


def test_whoever_is_leaving_by_a_deadline_keeps_it_when_the_agent_restarts() -> None:
    """Somebody has ordered it."""
    boarded = Boarded(web("a"), memory=Memory(draining={key_of("b"): 10}))
    assert boarded.service().members[-1] == Member(endpoint_of("b"), Health.DRAINING, 10)


def test_whoever_left_before_the_agent_restarted_comes_back_without_an_order() -> None:
    """Nobody has ordered that it drains."""
    boarded = Boarded(web("a"), memory=Memory(draining={key_of("b"): None}))
    boarded.configure(web("ab"))
    assert boarded.serving() == "ab"


def test_a_frontend_that_is_only_remembered_is_leaving() -> None:
    """Of its privateip nothing is known."""
    boarded = Boarded(shop("a"), memory=Memory(draining={key_of("a"): None}))
    service = boarded.service()
    assert service.is_leaving
    assert (service.name, service.privateip) == (str(BIND), BIND.address)


def test_what_is_remembered_counts_once() -> None:
    """Later it is old."""
    boarded = Boarded(web("a"), memory=Memory(down=frozenset([key_of("b")])))
    boarded.board.forget(key_of("b"))
    boarded.configure(web("ab"))
    assert boarded.health("b") is Health.UNKNOWN


@pytest.mark.parametrize(("served", "serving"), [("z", "z"), ("abc", "abc"), ("", "abc")])
def test_a_quorum_that_was_lost_stays_lost_when_the_agent_restarts(
    served: str, serving: str
) -> None:
    """Between its limits a frontend stays as it was, and the rules say how that is."""
    down = frozenset([key_of("d")])
    memory = Memory(down=down, serving=frozenset(map(key_of, served)))
    frontend = replace(web("abcd", "z"), quorum=Quorum(live=3, hysteresis=1))
    assert Boarded(frontend, memory=memory).serving() == serving


def test_a_frontend_that_comes_back_later_is_not_taken_for_lost() -> None:
    """Which of those that it had were primaries nobody knows any more."""
    frontend = replace(web("abc", "z"), quorum=Quorum(live=2, hysteresis=1))
    memory = Memory(serving=frozenset([key_of("a")]), down=frozenset([key_of("c")]))
    boarded = Boarded(shop("a"), memory=memory)
    boarded.configure(shop("a"), frontend)
    assert boarded.serving() == "ab"


def test_adopted_backends_have_their_full_share() -> None:
    """They have run all the time."""
    frontend = replace(web("ab"), slow_start_s=20.0)
    boarded = Boarded(frontend, memory=Memory(serving=frozenset([key_of("a")])))
    assert boarded.service().serving == (Share(endpoint_of("a")), Share(endpoint_of("b")))


def test_privateip_of_a_frontend_that_left_is_the_last_that_it_had() -> None:
    """It is what `status` tells, until its last connection is over."""
    boarded = Boarded(web("a"))
    boarded.configure(shop("a"))
    assert boarded.service(Endpoint(ip_address("192.0.2.1"), 80)).privateip == PRIVATEIP


def test_a_copy_goes_its_own_way() -> None:
    """What becomes of the one is nothing to the other: a reload that fails goes back to it."""
    boarded = Boarded(web("ab"))
    before = boarded.board.copy()
    boarded.board.disable(key_of("a"), 1.0)
    boarded.board.configure(Config("other", (shop("c"),)), {}, 1.0)
    (service,) = before.services(1.0)
    assert [share.backend for share in service.serving] == [endpoint_of("a"), endpoint_of("b")]
