"""The board and files: who comes, leaves, stays and comes back when the file changes."""

from __future__ import annotations

from dataclasses import replace

from paraglider.config.model import Backend, Config, Family, Ports
from paraglider.health.health_state import Change
from paraglider.health.service import Health, Member
from tests.services import source_of
from tests.unit.health_states import (
    BIND,
    NO_CHECK,
    OTHER_BIND,
    PRIVATEIP,
    STARTS_DOWN,
    Harness,
    endpoint_of,
    key_of,
    shop,
    web,
)


def test_the_same_file_changes_nothing() -> None:
    """A reload is no event."""
    harness = Harness(web("ab", "z"), shop("a"))
    harness.probe("a", "--")
    before = harness.state.views()
    harness.now_s += 5
    assert harness.configure(web("ab", "z"), shop("a")) == []
    assert harness.state.views() == before


def test_whoever_is_not_in_the_file_any_more_leaves() -> None:
    """Its connections go on, in the same frontend."""
    harness = Harness(web("abc"))
    changes = harness.configure(web("ac"))
    why = "it is no longer configured"
    assert changes == [Change(key_of("b"), "web", Health.UNKNOWN, Health.DRAINING, why)]
    assert harness.serving() == "ac"
    assert harness.service().members[-1] == Member(
        endpoint_of("b"), Health.DRAINING, is_leaving=True
    )


def test_whoever_left_and_has_no_connections_is_gone() -> None:
    """The agent counts them."""
    harness = Harness(web("abc"))
    harness.configure(web("ac"))
    for key in harness.state.leaving():
        harness.state.forget(key)
    assert [member.backend for member in harness.service().members] == [*map(endpoint_of, "ac")]


def test_whoever_is_in_the_file_is_not_forgotten() -> None:
    """A count may come too late."""
    harness = Harness(web("ab"))
    harness.state.forget(key_of("a"))
    assert harness.serving() == "ab"


def test_whoever_comes_back_is_what_it_was() -> None:
    """A file with a mistake may be followed by the one before it."""
    harness = Harness(web("ab"))
    harness.probe("b", "---")
    harness.configure(web("a"))
    changes = harness.configure(web("ab"))
    why = "it is configured again"
    assert changes == [Change(key_of("b"), "web", Health.DRAINING, Health.DOWN, why)]


def test_whoever_drains_by_order_leaves_by_its_deadline() -> None:
    """To take it from the file gives it no more time."""
    harness = Harness(web("ab"))
    harness.state.drain(key_of("b"), 10, 1000)
    harness.configure(web("a"))
    assert harness.service().members[-1] == Member(
        endpoint_of("b"), Health.DRAINING, 10, is_leaving=True
    )


def test_whoever_drains_and_leaves_has_another_reason_to_drain() -> None:
    """It is told, though the health is the same."""
    harness = Harness(web("ab"))
    harness.state.drain(key_of("b"), 10, 1000)
    changes = harness.configure(web("a"))
    assert [change.why for change in changes] == ["it is no longer configured"]


def test_an_address_that_a_name_has_lost_leaves() -> None:
    """So that a service can be scaled down."""
    named = replace(web("a"), backends=(Backend("pool", 8080),))
    two = {("pool", Family.IPV4): [endpoint_of(letter).address for letter in "ab"]}
    one = {("pool", Family.IPV4): [endpoint_of("a").address]}
    harness = Harness()
    harness.configure(named, addresses=two)
    changes = harness.configure(named, addresses=one)
    assert [(c.key, c.why) for c in changes] == [
        (key_of("b"), "it is no longer an address of pool")
    ]


def test_a_frontend_that_is_not_in_the_file_any_more_leaves() -> None:
    """It comes last, serves nobody, and its name is free."""
    harness = Harness(web("ab"), shop("a"))
    harness.configure(replace(shop("a"), name="web"))
    assert [s.bind for s in harness.state.services(1000)] == [OTHER_BIND, BIND]
    service = harness.service()
    assert (service.is_leaving, service.name, service.serving) == (True, str(BIND), ())
    assert {member.health for member in service.members} == {Health.DRAINING}


def test_members_leave_a_frontend_by_the_name_that_it_had() -> None:
    """What has no name any more nobody would find in a log."""
    harness = Harness(web("a"), shop("a"))
    assert [change.frontend for change in harness.configure(shop("a"))] == ["web"]


def test_a_frontend_without_members_is_gone_at_once() -> None:
    """Its name never stood for anybody, so that nobody can have connections."""
    harness = Harness(replace(web("a"), backends=(Backend("pool", 8080),)), shop("a"))
    harness.configure(shop("a"))
    assert [service.bind for service in harness.state.services(1000)] == [OTHER_BIND]


def test_a_frontend_is_gone_with_the_last_of_its_members() -> None:
    """Nothing is left to be kept for it."""
    harness = Harness(web("ab"), shop("a"))
    harness.configure(shop("a"))
    for letter in "ab":
        harness.state.forget(key_of(letter))
    assert [service.bind for service in harness.state.services(1000)] == [OTHER_BIND]


def test_a_frontend_with_another_name_is_the_same() -> None:
    """Clients know its address and port."""
    harness = Harness(web("ab"))
    harness.probe("a", "---")
    harness.configure(replace(web("ab"), name="www"))
    assert harness.service().name == "www"
    assert harness.serving() == "b"


def test_a_bind_that_its_frontend_has_no_more_leaves_with_all_members() -> None:
    """It is known by itself then, also where it was the one that the frontend was known by; and is
    the frontend's again when it comes back."""
    both = replace(web("ab"), binds=(BIND, OTHER_BIND))
    for kept, lost in ((BIND, OTHER_BIND), (OTHER_BIND, BIND)):
        harness = Harness(both)
        harness.probe("a", "---")
        assert harness.configure(replace(both, binds=(kept,))) == []
        staying, leaving = harness.state.services(1000)
        assert (staying.binds, staying.is_leaving) == ((kept,), False)
        assert [share.backend for share in staying.serving] == [endpoint_of("b")]
        assert (leaving.binds, leaving.is_leaving, leaving.serving) == ((lost,), True, ())
        assert {m.health for m in leaving.members} == {Health.DRAINING}
        harness.configure(both)
        (again,) = harness.state.services(1000)
        assert (again.binds, again.is_leaving) == (both.binds, False)
        harness.configure(replace(both, binds=(kept,)))
        for letter in "ab":
            harness.state.forget(key_of(letter, lost))
        assert [service.binds for service in harness.state.services(1000)] == [(kept,)]


def test_what_happens_while_a_bind_is_away_is_not_forgotten_when_it_is_back() -> None:
    """An order, one that went down, and one that left; whichever of the binds was away."""
    both = replace(web("abc"), binds=(BIND, OTHER_BIND))
    for kept in (BIND, OTHER_BIND):
        harness = Harness(both)
        harness.configure(replace(both, binds=(kept,)))
        harness.state.disable(key_of("a", kept), 1000)
        for _ in range(3):
            harness.state.note(key_of("b", kept), is_good=False, reason="refused", now_s=1000)
        without = replace(web("ab"), binds=(kept,))
        harness.configure(without)
        harness.configure(replace(without, binds=both.binds))
        (service,) = harness.state.services(1000)
        assert {m.backend: m.health for m in service.members} == {
            endpoint_of("a"): Health.DISABLED,
            endpoint_of("b"): Health.DOWN,
            endpoint_of("c"): Health.DRAINING,
        }


def test_binds_that_left_together_are_known_each_by_itself() -> None:
    """So that the rules, which note one bind of each, can tell an agent that comes later."""
    third = OTHER_BIND._replace(ports=Ports(82, 82))
    harness = Harness(replace(web("a"), binds=(BIND, OTHER_BIND, third)))
    harness.configure(replace(web("a"), binds=(third,)))
    leaving = [s for s in harness.state.services(1000) if s.is_leaving]
    assert [s.binds for s in leaving] == [(BIND,), (OTHER_BIND,)]


def test_a_bind_that_another_frontend_takes_over_does_not_leave() -> None:
    """Its connections are that one's now."""
    harness = Harness(replace(web("ab"), binds=(BIND, OTHER_BIND)))
    harness.configure(web("ab"), shop("c"))
    services = harness.state.services(1000)
    assert [(s.name, s.binds, s.is_leaving) for s in services] == [
        ("web", (BIND,), False),
        ("shop", (OTHER_BIND,), False),
    ]


def test_another_order_in_the_file_is_another_order_of_service() -> None:
    """Rules are the same for the same file, whatever was before."""
    harness = Harness(web("abc"))
    harness.configure(web("cab"))
    assert harness.serving() == "cab"


def test_a_backend_that_loses_its_check_is_up() -> None:
    """Nobody would ever find that it is."""
    harness = Harness(web("ab"))
    harness.probe("a", "---")
    changes = harness.configure(web("ab", check=NO_CHECK))
    assert [c.why for c in changes] == ["it is no longer checked"] * 2
    assert harness.serving() == "ab"
    assert harness.state.views()[0].members[endpoint_of("a")].reason == ""


def test_a_backend_that_gets_a_check_serves_on() -> None:
    """Also if new ones have to wait: a reload must not take all away."""
    harness = Harness(web("ab", check=NO_CHECK))
    harness.configure(web("ab", check=STARTS_DOWN))
    assert harness.serving() == "ab"


def test_another_check_counts_anew() -> None:
    """Two refused at one port are no reason to go down for one at another."""
    harness = Harness(web("ab"))
    harness.probe("a", "--")
    harness.configure(web("ab", check=replace(STARTS_DOWN, starts_up=True, port=9000)))
    assert harness.probe("a", "--") == []


def test_privateip_of_a_frontend_that_left_is_the_last_that_it_had() -> None:
    """It is what `status` tells, until its last connection is over."""
    harness = Harness(web("a"))
    harness.configure(shop("a"))
    assert harness.service(BIND).source == source_of(PRIVATEIP)


def test_a_copy_goes_its_own_way() -> None:
    """What becomes of the one is nothing to the other: a reload that fails goes back to it."""
    harness = Harness(web("ab"))
    before = harness.state.copy()
    harness.state.disable(key_of("a"), 1.0)
    harness.state.configure(Config("other", (shop("c"),)), {}, 1.0)
    (service,) = before.services(1.0)
    assert [share.backend for share in service.serving] == [endpoint_of("a"), endpoint_of("b")]
