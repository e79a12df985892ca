"""What a frontend does when backends go down and come back: its keys, their bounds and defaults."""

import pytest

from paraglider.config.model import NoBackend, OnDown, Quorum
from tests.unit.config_files import frontend_of, problems_of, text_of

THREE = "[10.0.0.2:80, 10.0.0.3:80, 10.0.0.4:80, {address: 10.0.0.5:80, backup: true}]"


def test_a_frontend_that_says_nothing_cuts_and_rejects_at_once() -> None:
    found = frontend_of()
    expected = (OnDown.CUT, NoBackend.REJECT, Quorum(1, 0), 0.0, 5.0, 30.0)
    assert expected == (
        found.on_down,
        found.no_backend,
        found.quorum,
        found.slow_start_s,
        found.resolve_s,
        found.hold_s,
    )


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("on_down: keep", "on_down", OnDown.KEEP),
        ("on_down: cut", "on_down", OnDown.CUT),
        ("no_backend: serve-all", "no_backend", NoBackend.SERVE_ALL),
        ("no_backend: reject", "no_backend", NoBackend.REJECT),
        ("slow_start: 30s", "slow_start_s", 30.0),
        ("slow_start: 0s", "slow_start_s", 0.0),
        ("slow_start: 1h", "slow_start_s", 3600.0),
        ("affinity: 3h", "affinity_s", 10800.0),
        ("affinity: 0s", "affinity_s", 0.0),
        ("affinity: 24d", "affinity_s", 2073600.0),
        ("resolve: 1s", "resolve_s", 1.0),
        ("resolve: 1h", "resolve_s", 3600.0),
        ("hold: 0s", "hold_s", 0.0),
        ("hold: 90s", "hold_s", 90.0),
        ("hold: 1d", "hold_s", 86400.0),
        ("quorum: 2", "quorum", Quorum(2)),
        ("quorum: 3", "quorum", Quorum(3)),
        ("quorum: {live: 2}", "quorum", Quorum(2)),
        ("quorum: {live: 2, hysteresis: 1}", "quorum", Quorum(2, 1)),
        ("quorum: {hysteresis: 0, live: 3}", "quorum", Quorum(3, 0)),
    ],
)
def test_a_key_is_in_the_frontend(line: str, field: str, expected: object) -> None:
    assert expected == getattr(frontend_of(line, backends=THREE), field)


NUMBER = "is not a whole number from"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("on_down: drop", "12: frontend.on_down: 'drop' is not known here; write cut or keep"),
        (
            "on_down: [cut]",
            "12: frontend.on_down: must be what happens to the connections of a backend that goes"
            " down: cut or keep, not a list",
        ),
        (
            "no_backend: serve_all",
            "15: frontend.no_backend: 'serve_all' is not known here; write reject or serve-all",
        ),
        ("slow_start: 30", "15: frontend.slow_start: '30' has no unit; write 30s (or ms, m, h, d)"),
        (
            "slow_start: 61m",
            "15: frontend.slow_start: 61m is out of range; allowed is 0s to 1h",
        ),
        ("affinity: 3", "13: frontend.affinity: '3' has no unit; write 3s (or ms, m, h, d)"),
        ("affinity: 25d", "13: frontend.affinity: 25d is out of range; allowed is 0s to 24d"),
        ("resolve: 500ms", "12: frontend.resolve: 500ms is out of range; allowed is 1s to 1h"),
        ("resolve: 2h", "12: frontend.resolve: 2h is out of range; allowed is 1s to 1h"),
        ("hold: 2d", "9: frontend.hold: 2d is out of range; allowed is 0s to 1d"),
        ("hold: 30", "9: frontend.hold: '30' has no unit; write 30s (or ms, m, h, d)"),
        ("quorum: 0", f"11: frontend.quorum: '0' {NUMBER} 1 to 10000"),
        ("quorum: 10001", f"11: frontend.quorum: '10001' {NUMBER} 1 to 10000"),
        ("quorum: half", f"11: frontend.quorum: 'half' {NUMBER} 1 to 10000"),
        (
            "quorum: [2]",
            "11: frontend.quorum: must be how many backends, backups aside, must be up for them to"
            " be used, such as 2, not a list",
        ),
        (
            "quorum: {}",
            "11: frontend.quorum.live: is missing: how many backends, backups aside, must be up"
            " for them to be used, such as 2",
        ),
        ("quorum: {live: x}", f"18: frontend.quorum.live: 'x' {NUMBER} 1 to 10000"),
        (
            "quorum: {live: 2, hysteresis: -1}",
            f"33: frontend.quorum.hysteresis: '-1' {NUMBER} 0 to 9999",
        ),
        (
            "quorum: {live: 2, down: 1}",
            "21: frontend.quorum: unknown key 'down'; allowed here: live, hysteresis",
        ),
        (
            "quorum: {live: 2, hysteresis: 2}",
            "33: frontend.quorum.hysteresis: a hysteresis of 2 is not smaller than the number it"
            " is taken from, 2: frontend.quorum.live (line 5); write a smaller one",
        ),
        (
            "quorum: 4",
            "11: frontend.quorum: the quorum of 4 is never reached: the backends that are not"
            " backups are 3; write a smaller number",
        ),
        (
            "quorum: {live: 3, hysteresis: 1}",
            "11: frontend.quorum: once lost, the quorum is won back by 3 + 1 = 4 backends, and"
            " those that are not backups are 3; write smaller numbers",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(line: str, expected: str) -> None:
    assert [f"f:5:{expected}"] == problems_of(text_of(line, backends=THREE))


def test_the_quorum_may_stand_above_the_backends() -> None:
    text = "frontend: {quorum: 2, bind: 10.0.0.1:80, privateip: 10.0.0.1, backends: [10.0.0.2:80]}"
    expected = (
        "f:1:20: frontend.quorum: the quorum of 2 is never reached: the backends that are not"
        " backups are 1; write a smaller number"
    )
    assert [expected] == problems_of(text)


def test_how_many_servers_a_name_stands_for_is_not_known() -> None:
    assert frontend_of("quorum: 9", backends="[10.0.0.2:80, web:80]").quorum == Quorum(9)


def test_a_name_that_is_a_backup_does_not_count() -> None:
    backends = "[10.0.0.2:80, {address: web:80, backup: true}]"
    assert len(problems_of(text_of("quorum: 2", backends=backends))) == 1


def test_backends_that_are_refused_are_not_missed_in_the_quorum() -> None:
    """There would be a second problem with one cause."""
    assert len(problems_of(text_of("quorum: 2", backends="[10.0.0.2:80, 10.0.0]"))) == 1


def test_all_backends_may_be_backups() -> None:
    """Then nobody is preferred to them."""
    [found] = frontend_of(backends="[{address: 10.0.0.2:80, backup: true}]").backends
    assert found.is_backup
