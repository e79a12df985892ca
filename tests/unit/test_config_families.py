"""One frontend of the file that is of both families, and what each of the two then has."""

from ipaddress import ip_address, ip_network

import pytest

from paraglider.config.clients import Access, Rate, Source, SourceKind
from paraglider.config.model import (
    Backend,
    Bind,
    Check,
    CheckKind,
    Config,
    Family,
    Frontend,
    OnDown,
    Ports,
)
from paraglider.config.parse import parse_config
from tests.unit.config_files import problems_of

BOTH = """\
frontends:
  - name: web
    bind: ["[fd00::10]:80", 10.0.0.10:80]
    privateip: [fd00::4, 10.0.0.4]
    backends: ["[fd00::2]:8080", web:8080, 10.0.0.2:8080]
    on_down: keep
    allow: [10.0.0.0/8, "fd00::/8"]
    deny: ["fd00::9"]
    rate: 9/s
"""


def parse(text: str) -> Config:
    return parse_config(text.encode(), source="f")


def frontend_of(address: str, source: str, server: str, access: Access) -> Frontend:
    bind, host = ip_address(address), ip_address(server)
    family = Family(bind.version)
    backends = [Backend(host, 8080), Backend("web", 8080)]
    return Frontend(
        "web",
        (Bind(family, Ports(80, 80), address=bind),),
        Source(SourceKind.ADDRESS, ((ip_address(source), ip_address(source)),)),
        tuple(backends if family is Family.IPV6 else reversed(backends)),
        on_down=OnDown.KEEP,
        access=access,
    )


def test_each_has_what_is_of_its_family_and_the_names() -> None:
    v4 = Access((ip_network("10.0.0.0/8"),), (), rate=Rate(9, 1))
    v6 = Access((ip_network("fd00::/8"),), (ip_network("fd00::9"),), rate=Rate(9, 1))
    expected = (
        frontend_of("10.0.0.10", "10.0.0.4", "10.0.0.2", v4),
        frontend_of("fd00::10", "fd00::4", "fd00::2", v6),
    )
    assert expected == parse(BOTH).frontends


def test_names_are_of_one_frontend_of_the_file() -> None:
    """That it is two for us makes no name doubled, and leaves another's doubled."""
    again = BOTH + "  - {name: web, bind: 10.0.0.1:1, privateip: auto, backends: [web]}\n"
    expected = "f:10:12: frontends[1].name: the name web is taken by frontends[0].name (line 2)"
    assert [expected] == problems_of(again)


def changed(old: str, new: str) -> str:
    assert old in BOTH
    return BOTH.replace(old, new)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            changed('"[fd00::2]:8080", web:8080, ', ""),
            "f:3:12: frontends[0].bind[0]: [fd00::10]:80 is IPv6 but no backend is; add an"
            " IPv6 backend or remove the bind",
        ),
        (
            changed("web:8080, 10.0.0.2:8080", ""),
            "f:3:29: frontends[0].bind[1]: 10.0.0.10:80 is IPv4 but no backend is; add an"
            " IPv4 backend or remove the bind",
        ),
        (
            changed("[fd00::4, 10.0.0.4]", "10.0.0.4"),
            "f:4:16: frontends[0].privateip: no address is IPv6, and frontends[0].bind[0] (line 3)"
            " is; add one, or write auto",
        ),
        (
            changed(', "fd00::/8"', ""),
            "f:7:12: frontends[0].allow: no network is IPv6, and frontends[0].bind[0] (line 3) is:"
            " no client could connect to it; add one, such as ::/0 for all clients",
        ),
        (
            changed("web:8080, ", "") + "    quorum: 2\n",
            "f:10:13: frontends[0].quorum: the quorum of 2 is never reached: the IPv4 backends that"
            " are not backups are 1; write a smaller number",
        ),
        (
            changed("web:8080, ", "10.0.0.3:1, ") + "    quorum: {live: 1, hysteresis: 0}\n"
            "    check: {address: 10.0.0.9, port: 9, path: /}\n",
            "f:11:47: frontends[0].check.path: belongs to a check of type http or https, and this"
            " one is of type tcp (the default); remove it, or write another type",
        ),
    ],
)
def test_what_one_family_lacks_is_told(text: str, expected: str) -> None:
    assert [expected] == problems_of(text)


def test_what_a_name_stands_for_may_be_of_any_family() -> None:
    assert len(parse(changed('"[fd00::2]:8080", ', "")).frontends) == 2


@pytest.mark.parametrize("word", ["auto", "keep"])
def test_a_word_is_of_both_families(word: str) -> None:
    found = parse(changed("[fd00::4, 10.0.0.4]", word)).frontends
    assert [frontend.source for frontend in found] == [Source(SourceKind(word))] * 2


def text_of(bind: str, backends: str, more: str = "") -> str:
    return f"frontend: {{bind: {bind}, privateip: auto, backends: {backends}{more}}}"


CONNECT, NONE = Check(), Check(kind=CheckKind.NONE)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", [Check(port=8000), CONNECT, NONE]),
        (", check: http", [Check(CheckKind.HTTP, port=8000), Check(CheckKind.HTTP), NONE]),
        (", check: {port: 9}", [Check(port=9), Check(port=9), NONE]),
        (", check: none", [NONE, NONE, NONE]),
        (", protocol: tcp+udp", [Check(port=8000), CONNECT, NONE]),
        # A connection over TCP says nothing of a server that speaks UDP alone.
        (", protocol: udp", [NONE, NONE, NONE]),
        (", protocol: udp, check: tcp", [Check(port=8000), CONNECT, NONE]),
        (", protocol: udp, check: {port: 9}", [Check(port=9), Check(port=9), NONE]),
    ],
)
def test_a_backend_without_a_port_is_probed_at_the_first_of_the_bind(
    more: str, expected: list[Check]
) -> None:
    backends = "[10.0.0.2, 10.0.0.3:80, {address: 10.0.0.4, check: none}]"
    [found] = parse(text_of("'10.0.0.1:8000-8010,80'", backends, more)).frontends
    assert expected == [backend.check for backend in found.backends]


def test_a_check_of_its_own_is_made_for_a_backend_of_udp() -> None:
    backends = "[10.0.0.2:53, {address: 10.0.0.3, check: {rise: 1}}]"
    [found] = parse(text_of("10.0.0.1:53", backends, ", protocol: udp")).frontends
    assert [backend.check for backend in found.backends] == [NONE, Check(rise=1, port=53)]


@pytest.mark.parametrize(
    ("bind", "backend", "expected"),
    [
        ("10.0.0.1:8000-8010", "10.0.0.2:9000-9010", None),
        ("[10.0.0.1:8000-8010, 10.0.0.9:8000-8010]", "web:9000-9010", None),
        ("10.0.0.1:8000-8010", "10.0.0.2:9000-9009", "10 ports, and frontend.bind (line 1) has 11"),
        ("10.0.0.1:80", "10.0.0.2:9000-9009", "10 ports, and frontend.bind (line 1) has 1"),
        (
            "'10.0.0.1:1-9,11-19'",
            "10.0.0.2:1-9",
            "9 ports, and frontend.bind (line 1) has several ranges",
        ),
        (
            "[10.0.0.1:1-9, 10.0.0.9:2-10]",
            "10.0.0.2:1-9",
            "9 ports, and frontend.bind[0] (line 1) has several ranges",
        ),
    ],
)
def test_a_range_of_a_backend_is_that_of_the_bind_one_for_one(
    bind: str, backend: str, expected: str | None
) -> None:
    text = text_of(bind, f"[{backend}]")
    if expected is None:
        assert [backend] == [str(found) for found in parse(text).frontends[0].backends]
        return
    [problem] = problems_of(text)
    reason = (
        f"frontend.backends[0]: {backend} has {expected}: they are mapped one to one, so both must"
        " be one range of the same length; write that, or one port"
    )
    assert reason == problem.split(": ", 1)[1]


def test_the_port_of_the_bind_makes_no_other_backend() -> None:
    expected = (
        "frontend.backends[1]: 10.0.0.2:80 is listed already, as the bind has port 80:"
        " frontend.backends[0] (line 1); list every backend once"
    )
    [problem] = problems_of(text_of("10.0.0.1:80", "[10.0.0.2, 10.0.0.2:80]"))
    assert expected == problem.split(": ", 1)[1]
    parse(text_of("10.0.0.1:80-81", "[10.0.0.2, 10.0.0.2:80]"))
