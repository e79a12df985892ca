"""Binds that would take the same connections, and backends that lead back to one."""

from itertools import combinations

import pytest

from paraglider.config.parse import parse_config
from tests.unit.config_files import problems_of


def text_of(first: str, second: str, *, backends: str = "[10.9.0.2:9, '[fd09::2]:9']") -> str:
    """Return a file of two frontends, of which each has its bind on a line of its own."""
    rest = f"    privateip: auto\n    backends: {backends}\n"
    return (
        f"frontends:\n  - name: a\n    bind: {first}\n{rest}  - name: b\n    bind: {second}\n{rest}"
    )


OWN = "each needs an address and port of its own"
OWN_PORTS = "each needs an address and ports of its own"


def frontend_text(bind: str, *, more: str = "", backends: str = "[10.9.0.2:9]") -> str:
    return f"frontend: {{bind: {bind}, privateip: auto, backends: {backends}{more}}}"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("10.0.0.1:80", "10.0.0.1:80", f"10.0.0.1:80 is a bind already: {{}}; {OWN}"),
        ("10.0.0.1:80-90", "10.0.0.1:80-90", f"10.0.0.1:80-90 is a bind already: {{}}; {OWN}"),
        (
            "10.0.0.1:80-90",
            "10.0.0.1:85",
            f"10.0.0.1:85 has ports of the bind 10.0.0.1:80-90: {{}}; {OWN_PORTS}",
        ),
        (
            "10.0.0.1:85",
            "10.0.0.1:80-90",
            f"10.0.0.1:80-90 has ports of the bind 10.0.0.1:85: {{}}; {OWN_PORTS}",
        ),
        (
            "10.0.0.1:80-90",
            "10.0.0.1:90-99",
            f"10.0.0.1:90-99 has ports of the bind 10.0.0.1:80-90: {{}}; {OWN_PORTS}",
        ),
        ("eth0:80", "eth0:80", f"eth0:80 is a bind already: {{}}; {OWN}"),
        ("0.0.0.0:80", "0.0.0.0:80", f"0.0.0.0:80 is a bind already: {{}}; {OWN}"),
        ("'*:80'", "0.0.0.0:80", f"0.0.0.0:80 is a bind already: {{}}; {OWN}"),
        # What is the same for both families is told once.
        ("'*:80'", "'*:80'", f"0.0.0.0:80 is a bind already: {{}}; {OWN}"),
    ],
)
def test_binds_that_are_alike_may_not_share_a_port(first: str, second: str, expected: str) -> None:
    reason = problems_of(text_of(first, second, backends="[10.9.0.2:9, '[fd09::2]:9', web:9]"))
    place = "f:7:11: frontends[1].bind: "
    wanted = place + expected.format("frontends[0].bind (line 3)")
    assert [wanted] == [line for line in reason if line.startswith(place)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *combinations(("10.0.0.1:80", "10.0.0.2:80", "eth0:80", "eth1:80", "0.0.0.0:80"), 2),
        ("'[::]:80'", "0.0.0.0:80"),
        ("10.0.0.1:80-90", "10.0.0.1:91-99"),
        ("'10.0.0.1:80,82'", "'10.0.0.1:81,83'"),
    ],
)
def test_the_more_specific_takes_what_both_fit(first: str, second: str) -> None:
    """An address goes before an interface, and that before any address."""
    text = (
        f"frontends: [{{name: a, bind: {first}, privateip: auto, backends: [web]}},"
        f" {{name: b, bind: {second}, privateip: auto, backends: [web]}}]"
    )
    assert len(parse_config(text.encode(), source="f").frontends) == 2


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("tcp", "udp", 0), ("tcp", "tcp", 1), ("udp", "tcp+udp", 1), ("tcp+udp", "tcp+udp", 1)],
)
def test_a_port_of_tcp_is_not_that_of_udp(first: str, second: str, expected: int) -> None:
    one = "{{name: {}, bind: 10.0.0.1:53, protocol: {}, privateip: auto, backends: [10.0.0.2]}}"
    text = f"frontends: [{one.format('a', first)}, {one.format('b', second)}]"
    found = problems_of(text) if expected else parse_config(text.encode(), source="f").frontends
    assert len(found) == (expected or 2)


def test_binds_of_one_frontend_are_told_as_those_of_two() -> None:
    expected = [
        "f:1:32: frontend.bind[1]: 10.0.0.1:80 is a bind already: frontend.bind[0] (line 1);"
        f" {OWN}",
        "f:1:45: frontend.bind[2]: 10.0.0.1:70-99 has ports of the bind 10.0.0.1:80:"
        f" frontend.bind[0] (line 1); {OWN_PORTS}",
    ]
    assert expected == problems_of(frontend_text("[10.0.0.1:80, 10.0.0.1:80, 10.0.0.1:70-99]"))


LOOP = "connections would come back here for ever, name a server"


@pytest.mark.parametrize(
    ("bind", "backend", "expected"),
    [
        ("10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:80 is a bind"),
        ("10.0.0.1:80-90", "10.0.0.1:85", "10.0.0.1:85 leads to 10.0.0.1:80-90, a bind"),
        ("10.0.0.1:80-90", "10.0.0.1:80", "10.0.0.1:80 leads to 10.0.0.1:80-90, a bind"),
        ("10.0.0.1:80", "10.0.0.1", "10.0.0.1 leads to 10.0.0.1:80, a bind"),
        ("10.0.0.1:80-90", "10.0.0.1:85-95", "10.0.0.1:85-95 leads to 10.0.0.1:80-90, a bind"),
        ("'[fd00::1]:80'", "'[fd00::1]'", "[fd00::1] leads to [fd00::1]:80, a bind"),
    ],
)
def test_a_backend_that_leads_to_a_bind_is_a_loop(bind: str, backend: str, expected: str) -> None:
    [problem] = problems_of(frontend_text(bind, backends=f"[{backend}]"))
    reason = f"{expected} of this configuration: frontend.bind (line 1); {LOOP}"
    assert reason == problem.split(": ", 2)[2]


@pytest.mark.parametrize("backend", ["10.0.0.1:81", "10.0.0.2", "10.0.0.2:80", "10.0.0.1:1"])
def test_another_port_of_a_bind_is_no_loop(backend: str) -> None:
    text = frontend_text("10.0.0.1:80", backends=f"[{backend}]")
    assert len(parse_config(text.encode(), source="f").frontends) == 1


def test_a_backend_without_a_port_meets_a_bind_at_the_ports_of_its_frontend_alone() -> None:
    one = "{{name: {}, bind: {}, privateip: auto, backends: [{}]}}"
    a, b = one.format("a", "10.0.0.1:80", "10.9.0.9"), one.format("b", "10.0.0.2:81", "10.0.0.1")
    text = f"frontends: [{a}, {b}]"
    assert len(parse_config(text.encode(), source="f").frontends) == 2


def test_a_bind_of_another_protocol_is_no_loop() -> None:
    one = "{{name: {}, bind: {}, protocol: {}, privateip: auto, backends: [{}]}}"
    a = one.format("a", "10.0.0.1:53", "udp", "10.9.0.9")
    text = f"frontends: [{a}, {one.format('b', '10.0.0.2:53', 'tcp', '10.0.0.1')}]"
    assert len(parse_config(text.encode(), source="f").frontends) == 2


def test_which_addresses_a_wildcard_has_nobody_knows() -> None:
    text = frontend_text("0.0.0.0:80", backends="[10.0.0.1:80]")
    assert len(parse_config(text.encode(), source="f").frontends) == 1


def _with_two_sources(first: str, second: str) -> str:
    text = text_of(first, second, backends="[10.9.0.2:9]")
    return text.replace("privateip: auto", "privateip: 10.9.0.1", 1)


@pytest.mark.parametrize("binds", [("eth0:80", "eth1:80"), ("'*:80'", "eth1:70-80")])
def test_binds_that_differ_in_the_interface_alone_have_one_source(binds: tuple[str, str]) -> None:
    """When that is given nobody knows any more where a connection came in."""
    (reason,) = problems_of(_with_two_sources(*binds))
    assert "it cannot be told by the interface; write the same, or binds with an address" in reason
    assert parse_config(text_of(*binds, backends="[10.9.0.2:9]").encode(), source="f").frontends


@pytest.mark.parametrize("binds", [("eth0:80", "eth1:81"), ("eth0:80", "10.0.0.1:80")])
def test_other_binds_may_have_different_sources(binds: tuple[str, str]) -> None:
    """By the port or the address they can be told."""
    assert parse_config(_with_two_sources(*binds).encode(), source="f").frontends
