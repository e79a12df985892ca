"""Restore: from any state of the kernel to the wanted one, with as little written as possible."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from paraglider.config.model import Endpoint
from paraglider.health.service import Member, Service, Share
from paraglider.rules.parse import RuleSyntaxError
from paraglider.rules.restore import is_complete, lint_restore, plan_restore
from paraglider.rules.ruleset import TableName
from paraglider.rules.state import NOTHING, State, parse_save
from paraglider.rules.wanted import plan_states


def _wanted(*backends: str, name: str = "web") -> State:
    endpoints = [Endpoint(ip_address(backend), 80) for backend in backends]
    bind = Endpoint(ip_address("192.0.2.10"), 80)
    members, serving = tuple(map(Member, endpoints)), tuple(map(Share, endpoints))
    (state,) = plan_states([Service(name, bind, ip_address("10.0.0.4"), members, serving)]).values()
    return state


TWO = _wanted("10.0.0.11", "10.0.0.12")
THREE = _wanted("10.0.0.11", "10.0.0.12", "10.0.0.13")


def _nat(*lines: str) -> str:
    return "\n".join(["*nat", ":PREROUTING ACCEPT [0:0]", *lines, "COMMIT", ""])


def test_equal_states_need_no_write() -> None:
    """Nothing is given to iptables-restore where the kernel is as wanted."""
    assert plan_restore(TWO, TWO) == ""


def test_a_backend_more_rewrites_only_the_chains_that_name_it() -> None:
    """The frontend's own chain, the one for stray packets and the seal; no jump, no other chain."""
    text = plan_restore(TWO, THREE)
    declared = [line for line in text.split("\n") if line.startswith(":")]
    assert declared == [f":PARAGLIDER-{c} - [0:0]" for c in ("STRAY", "PIN", "web")]
    assert "-I " not in text


def _filter(*lines: str) -> State:
    """A host with Docker, and all of TWO's chains of the filter table in it."""
    chains = TWO.table(TableName.FILTER).chains
    ours = [f"-A {chain} {rule.text}" for chain, rules in chains.items() for rule in rules]
    heads = [":FORWARD DROP [0:0]", ":DOCKER-USER - [0:0]", *(f":{c} - [0:0]" for c in chains)]
    hook = "-A INPUT -j PARAGLIDER-INPUT"
    return parse_save("\n".join(["*filter", *heads, hook, *lines, *ours, "COMMIT", ""]))


def _filter_hooks(current: State) -> list[str]:
    """Return what a restore would do to built-in and guest chains of the filter table."""
    text = plan_restore(current, TWO).split("*mangle")[0]
    return [line for line in text.split("\n") if re.match(r"-[ID] ", line)]


OURS = "-A FORWARD -j PARAGLIDER-FORWARD"
DOCKERS = "-A FORWARD -j DOCKER-USER"
IN_DOCKERS = "-A DOCKER-USER -j PARAGLIDER-FORWARD"


def test_where_docker_has_a_chain_for_others_a_jump_is_made_there_too() -> None:
    """First in it, before the rules of a person; the one in FORWARD stays as it is."""
    live = _filter(OURS, DOCKERS, "-A DOCKER-USER -s 192.0.2.7/32 -j DROP")
    assert _filter_hooks(live) == ["-I DOCKER-USER 1 -j PARAGLIDER-FORWARD"]


def test_without_that_chain_nothing_is_said_of_it() -> None:
    """A host without Docker gets no line that names Docker."""
    assert "DOCKER" not in plan_restore(NOTHING, TWO)


def test_docker_may_put_its_chain_before_our_jump() -> None:
    """What it does when a network is made: nothing to mend, since our jump is in that chain."""
    assert _filter_hooks(_filter(DOCKERS, OURS, IN_DOCKERS)) == []


def test_anything_else_before_our_jump_is_mended() -> None:
    """Docker's chain in second place is passed by what somebody put before it."""
    before = "-A FORWARD -j SOMEBODY"
    assert _filter_hooks(_filter(before, DOCKERS, OURS, IN_DOCKERS)) == [
        "-D FORWARD -j PARAGLIDER-FORWARD",
        "-I FORWARD 1 -j PARAGLIDER-FORWARD",
    ]


@pytest.mark.parametrize("stranger", ["-j PARAGLIDER-STRAY", "-i eth0 -j PARAGLIDER-OLD"])
def test_our_jump_stands_where_docker_left_it_only_as_long_as_nothing_else_leads_to_us(
    stranger: str,
) -> None:
    """Rules before it may have to go, and then it would stand elsewhere: it is put first."""
    text = plan_restore(_filter(DOCKERS, OURS, f"-A FORWARD {stranger}", IN_DOCKERS), TWO)
    assert "-I FORWARD 1 -j PARAGLIDER-FORWARD" in text
    lint_restore(text)


def test_a_dockers_chain_that_has_just_come_is_no_damage() -> None:
    """All that we made is there; the jump in the new chain is extra."""
    now = State({**TWO.tables, TableName.FILTER: _filter(OURS, DOCKERS).table(TableName.FILTER)})
    assert is_complete(now, TWO)
    assert plan_restore(now, TWO)


def test_the_jump_in_dockers_chain_goes_with_the_rest() -> None:
    """Going down, by its text, and nothing else of the chain with it."""
    live = _filter(OURS, DOCKERS, IN_DOCKERS, "-A DOCKER-USER -j RETURN")
    text = plan_restore(live, NOTHING)
    assert [line for line in text.split("\n") if "DOCKER" in line] == [
        "-D DOCKER-USER -j PARAGLIDER-FORWARD"
    ]


def test_a_frontend_that_goes_takes_its_chain_with_it() -> None:
    """What the wanted state does not have is emptied and deleted, after nothing leads there."""
    text = plan_restore(_wanted("10.0.0.11", name="old"), _wanted("10.0.0.11", name="new"))
    assert text.endswith(
        "-A PARAGLIDER-new -p tcp -j DNAT --to-destination 10.0.0.11:80\n"
        "-F PARAGLIDER-old\n-X PARAGLIDER-old\nCOMMIT\n"
    )


def test_tables_come_up_with_nat_last_and_go_down_with_nat_first() -> None:
    """In every moment between two tables a connection either passes or is not sent anywhere."""

    def order(text: str) -> list[str]:
        return [line for line in text.split("\n") if line.startswith("*")]

    assert order(plan_restore(NOTHING, TWO)) == ["*filter", "*mangle", "*nat"]
    assert order(plan_restore(TWO, NOTHING)) == ["*nat", "*mangle", "*filter"]


def test_counters_of_a_backend_survive_a_rewrite() -> None:
    """A backend's total goes on, though its rule now matches one in three instead of one in two."""
    live = parse_save(
        _nat(
            ":PARAGLIDER-web - [0:0]",
            "[7:420] -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 2 --packet 0 "
            "-j DNAT --to-destination 10.0.0.11:80",
            "[6:360] -A PARAGLIDER-web -p tcp -j DNAT --to-destination 10.0.0.12:80",
        )
    )
    lines = [line for line in plan_restore(live, THREE).split("\n") if "-A PARAGLIDER-web" in line]
    assert lines == [
        "[7:420] -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 3 --packet 0 "
        "-j DNAT --to-destination 10.0.0.11:80",
        "[6:360] -A PARAGLIDER-web -p tcp -m statistic --mode nth --every 2 --packet 0 "
        "-j DNAT --to-destination 10.0.0.12:80",
        "-A PARAGLIDER-web -p tcp -j DNAT --to-destination 10.0.0.13:80",
    ]


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param([], ["-I PREROUTING 1 -j PARAGLIDER-DNAT"], id="missing"),
        pytest.param(
            ["-A PREROUTING -j DOCKER", "-A PREROUTING -j PARAGLIDER-DNAT"],
            ["-D PREROUTING -j PARAGLIDER-DNAT", "-I PREROUTING 1 -j PARAGLIDER-DNAT"],
            id="not first",
        ),
        pytest.param(
            ["-A PREROUTING -j PARAGLIDER-DNAT"] * 2,
            ["-D PREROUTING -j PARAGLIDER-DNAT"] * 2 + ["-I PREROUTING 1 -j PARAGLIDER-DNAT"],
            id="doubled",
        ),
        pytest.param(
            ["-A PREROUTING -j PARAGLIDER-DNAT", "-A PREROUTING -j PARAGLIDER-web"],
            [
                "-D PREROUTING -j PARAGLIDER-web",
                "-D PREROUTING -j PARAGLIDER-DNAT",
                "-I PREROUTING 1 -j PARAGLIDER-DNAT",
            ],
            id="another beside it",
        ),
        pytest.param(["-A PREROUTING -j PARAGLIDER-DNAT", "-A PREROUTING -j DOCKER"], [], id="ok"),
    ],
)
def test_the_jump_is_put_first_once(live: list[str], expected: list[str]) -> None:
    """Whatever the built-in chain held, one jump to ours stands first in it afterwards."""
    text = plan_restore(parse_save(_nat(":PARAGLIDER-DNAT - [0:0]", *live)), TWO)
    assert [line for line in text.split("\n") if " PREROUTING " in line] == expected


def test_a_strangers_rule_in_our_chain_is_found_and_written_over() -> None:
    """A chain of ours that holds anything else differs, and is rewritten whole."""
    web = [rule.text for rule in TWO.tables[TableName.NAT].chains["PARAGLIDER-web"]]
    lines = [f"-A PARAGLIDER-web {text}" for text in [*web, "-m mark --mark 0x1 -j ACCEPT"]]
    live = parse_save(_nat(":PARAGLIDER-web - [0:0]", *lines))
    assert ":PARAGLIDER-web - [0:0]" in plan_restore(live, TWO)


def test_nothing_of_a_stranger_is_named_in_a_removal() -> None:
    """Of a table with Docker's rules in it, only ours are deleted."""
    live = parse_save(
        _nat(
            ":DOCKER - [0:0]",
            ":PARAGLIDER-DNAT - [0:0]",
            "-A PREROUTING -j PARAGLIDER-DNAT",
            '-A PREROUTING -m comment --comment "see -j PARAGLIDER-DNAT" -j DOCKER',
            "-A DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80",
            "-A DOCKER -s 10.0.0.0/8 -j PARAGLIDER-DNAT",
        )
    )
    assert plan_restore(live, NOTHING) == (
        "*nat\n"
        "-D DOCKER -s 10.0.0.0/8 -j PARAGLIDER-DNAT\n"
        "-D PREROUTING -j PARAGLIDER-DNAT\n"
        "-F PARAGLIDER-DNAT\n"
        "-X PARAGLIDER-DNAT\n"
        "COMMIT\n"
    )


def test_what_a_stranger_named_and_wrote_is_taken_away_as_it_is() -> None:
    """A name with a quote, a rule without a target, a jump with a comment of two lines."""
    live = parse_save(
        _nat(
            ':PARAGLIDER-a"b - [0:0]',
            ":PARAGLIDER- - [0:0]",
            '-A PARAGLIDER-a"b',
            '-A PREROUTING -m comment --comment "one\n-A two" -j PARAGLIDER-',
            "-A PREROUTING -j DOCKER",
            "-A PREROUTING -j PARAGLIDER-",
        )
    )
    text = plan_restore(live, NOTHING)
    assert text == (
        "*nat\n-D PREROUTING 3\n-D PREROUTING 1\n"
        '-F PARAGLIDER-\n-F "PARAGLIDER-a\\"b"\n-X PARAGLIDER-\n-X "PARAGLIDER-a\\"b"\nCOMMIT\n'
    )
    lint_restore(text)


def test_a_strangers_own_way_to_a_chain_of_ours_is_left_alone() -> None:
    """Who jumps to us under a condition wants to; it goes with the chain, and not before."""
    way = "-A OUTPUT -m recent --name x --rcheck -j PARAGLIDER-DNAT"
    live = parse_save(_nat(":PARAGLIDER-DNAT - [0:0]", way))
    assert "-m recent" not in plan_restore(live, TWO)
    assert "-D OUTPUT -m recent" in plan_restore(live, NOTHING)


def test_putting_back_what_was_neither_doubles_nor_forgets_a_strangers_way() -> None:
    """After a failed start: one that stayed is left alone, one that went with its chain is back."""
    old = [
        ":PARAGLIDER-DNAT - [0:0]",
        ":PARAGLIDER-old - [0:0]",
        "-A OUTPUT -m mark --mark 0x1 -j PARAGLIDER-DNAT",
        "-A OUTPUT -m mark --mark 0x2 -j PARAGLIDER-old",
    ]
    before = parse_save(_nat(*old))
    now = parse_save(_nat(old[0], old[2]))
    lines = plan_restore(now, before).split("\n")
    assert [line for line in lines if " OUTPUT " in line] == [
        "-I OUTPUT 2 -m mark --mark 0x2 -j PARAGLIDER-old"
    ]


def test_a_quote_that_never_ends_hides_nothing_of_ours() -> None:
    """A stranger's name with one in it, printed as it is, before and after our own rules."""
    odd = "-A INPUT -m hashlimit --hashlimit-name 'x \"y' -j ACCEPT"
    ours = [f"-A PARAGLIDER-web -p tcp -m tcp --dport {port} -j DROP" for port in range(1, 20)]
    live = parse_save(_nat(":PARAGLIDER-web - [0:0]", odd, *ours, odd))
    assert len(live.tables[TableName.NAT].chains["PARAGLIDER-web"]) == len(ours)


def test_a_rule_without_a_target_in_our_chain_is_found() -> None:
    """It does nothing but count, and yet is not what was applied."""
    web = [rule.text for rule in TWO.tables[TableName.NAT].chains["PARAGLIDER-web"]]
    lines = [f"-A PARAGLIDER-web {text}".rstrip() for text in ["", *web]]
    live = parse_save(_nat(":PARAGLIDER-web - [0:0]", *lines))
    assert ":PARAGLIDER-web - [0:0]" in plan_restore(live, TWO)


@pytest.mark.parametrize(
    "line",
    [
        ":INPUT DROP [0:0]",
        ":PARAGLIDER-web DROP [0:0]",
        "-P INPUT DROP",
        "-F",
        "-F INPUT",
        "-X DOCKER",
        "-A INPUT -j DROP",
        "-A PARAGLIDER-web -j REDIRECT",
        "-A PARAGLIDER-web -p tcp -j DROP --to-destination 1.2.3.4:5",
        "-A PARAGLIDER-web  -j DROP",
        "-A PARAGLIDER-web -d 0.0.0.0/0 -j DROP",
        "-I INPUT 1 -j DROP",
        "-I INPUT 2 -j PARAGLIDER-INPUT",
        "-D FORWARD -j DOCKER-USER",
        "*broute",
        "",
    ],
)
def test_the_last_door_lets_no_other_line_through(line: str) -> None:
    """A line that only a mistake of ours or a hostile file could have made is refused."""
    with pytest.raises(RuleSyntaxError):
        lint_restore(f"*filter\n{line}\nCOMMIT\n")
