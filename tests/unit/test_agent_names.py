"""Names: which addresses they stand for while resolving works, and while it does not."""

from __future__ import annotations

from ipaddress import ip_address

from paraglider.agent.names import Names, wanted_names
from paraglider.config.model import Backend, Config, Endpoint, Family
from paraglider.health.resolver import Resolved
from tests.unit.config_files import frontend_at

_BIND = Endpoint(ip_address("192.0.2.10"), 80)
_WEB = ("web", Family.IPV4)
_ONE, _TWO, _OLD = (ip_address(f"10.0.0.{number}") for number in (1, 2, 9))


def _config(*backends: Backend, resolve_s: float = 5.0) -> Config:
    return Config("f", (frontend_at("f", _BIND, _BIND.address, backends, resolve_s=resolve_s),))


def _answer(*addresses: str) -> Resolved:
    return Resolved(*_WEB, tuple(ip_address(address) for address in addresses))


def test_an_answer_that_differs_changes_who_the_backends_are() -> None:
    """The same one again does not."""
    told: list[str] = []
    names = Names(told.append)
    assert names.note(_answer("10.0.0.1"))
    assert not names.note(_answer("10.0.0.1"))
    assert names.note(_answer("10.0.0.1", "10.0.0.2"))
    assert names.addresses == {_WEB: (_ONE, _TWO)}
    assert told == ["web stands for 10.0.0.1", "web stands for 10.0.0.1, 10.0.0.2"]


def test_a_name_that_stops_resolving_keeps_its_last_addresses() -> None:
    """Whether the lookup fails or finds nothing of use."""
    told: list[str] = []
    names = Names(told.append)
    names.note(_answer("10.0.0.1"))
    assert not names.note(Resolved(*_WEB, None, "timed out"))
    assert not names.note(_answer())
    assert names.addresses == {_WEB: (_ONE,)}
    assert told[1:] == [
        "web cannot be resolved: timed out; its last addresses stay",
        "web cannot be resolved: no addresses; its last addresses stay",
    ]


def test_names_are_waited_for_until_each_has_had_an_answer() -> None:
    """A bad one is an answer, too."""
    names = Names(lambda _: None)
    config = _config(Backend("web", 80))
    assert names.is_waiting(config)
    names.note(Resolved(*_WEB, None, "unknown"))
    assert not names.is_waiting(config)


def test_a_name_that_does_not_resolve_adopts_the_backends_that_nothing_else_explains() -> None:
    """Those with its port that have connections, and are no other entry of the file."""
    names = Names(lambda _: None)
    config = _config(Backend("web", 80), Backend(_ONE, 80))
    serving = [
        (_BIND, Endpoint(_ONE, 80)),
        (_BIND, Endpoint(_OLD, 80)),
        (_BIND, Endpoint(_TWO, 81)),
        (Endpoint(_BIND.address, 81), Endpoint(_TWO, 80)),
    ]
    names.adopt(config, serving)
    assert names.addresses == {_WEB: (_OLD,)}


def test_a_name_is_resolved_as_often_as_its_most_eager_frontend_wants() -> None:
    """Once for all of them."""
    (eager,), (lazy,) = (
        _config(Backend("web", 80), resolve_s=1.0).frontends,
        _config(Backend("web", 81)).frontends,
    )
    assert wanted_names(Config("f", (lazy, eager))) == {_WEB: 1.0}
