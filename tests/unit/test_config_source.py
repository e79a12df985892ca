"""What backends see: addresses and ranges of them, or a word."""

import pytest

from paraglider.config.clients import Source, SourceKind
from paraglider.config.parse import parse_config
from paraglider.config.source import MAX_ADDRESSES
from tests.unit.config_files import problems_of

WORDS = "only backends may be names; write an address such as 172.19.0.4, or auto or keep"


def text_of(privateip: str) -> str:
    """Return a file of one frontend, with the privateip on line 1 from column 25 on."""
    return f"frontend: {{privateip: {privateip}, bind: 10.0.0.1:80, backends: [10.0.0.2:80]}}"


def source_of(privateip: str) -> Source:
    [frontend] = parse_config(text_of(privateip).encode(), source="f").frontends
    return frontend.source


@pytest.mark.parametrize(
    ("privateip", "expected"),
    [
        ("10.0.0.4", "10.0.0.4"),
        ("10.0.0.4-10.0.0.9", "10.0.0.4-10.0.0.9"),
        ("[10.0.0.4]", "10.0.0.4"),
        ("[10.0.0.9, 10.0.0.4]", "10.0.0.4, 10.0.0.9"),
        ("[10.0.0.6, 10.0.0.5, 10.0.0.4]", "10.0.0.4-10.0.0.6"),
        ("[10.0.1.1, 10.0.0.7-10.0.0.9, 10.0.0.4-10.0.0.6]", "10.0.0.4-10.0.0.9, 10.0.1.1"),
        ("[10.0.0.4-10.0.0.9, 10.0.0.11]", "10.0.0.4-10.0.0.9, 10.0.0.11"),
        ("auto", "auto"),
        ("'keep'", "keep"),
    ],
)
def test_ranges_are_in_order_and_adjacent_ones_are_one(privateip: str, expected: str) -> None:
    assert expected == str(source_of(privateip))


@pytest.mark.parametrize("word", ["auto", "keep"])
def test_a_word_is_a_kind_of_its_own(word: str) -> None:
    assert source_of(word) == Source(SourceKind(word))


@pytest.mark.parametrize(
    ("privateip", "expected"),
    [
        ("atuo", f"23: frontend.privateip: 'atuo' is a name, and {WORDS}"),
        (
            "lan-1",
            "23: frontend.privateip: 'lan-1' is a name, and only backends may be names; write an"
            " address such as 172.19.0.4",
        ),
        (
            "10.0.0.9-10.0.0.4",
            "23: frontend.privateip: 10.0.0.9-10.0.0.4 ends before it begins; write"
            " 10.0.0.4-10.0.0.9",
        ),
        (
            "10.0.0.4-10.0.0.4",
            "23: frontend.privateip: 10.0.0.4-10.0.0.4 is one address; write 10.0.0.4",
        ),
        (
            "10.0.0.4-fd00::1",
            "23: frontend.privateip: 10.0.0.4 and fd00::1 are of two families; write a range of"
            " one",
        ),
        (
            "10.0.0.4-",
            "23: frontend.privateip: the address is missing; write an address such as 172.19.0.4",
        ),
        (
            "10.0.0.4-127.0.0.1",
            "23: frontend.privateip: 127.0.0.1 is a loopback address: backends could not answer to"
            " it; use the address of this host in the network of the backends",
        ),
        (
            "10.0.0.0-10.0.1.0",
            f"23: frontend.privateip: more than {MAX_ADDRESSES} addresses, each of which must be"
            " this host's; write fewer",
        ),
        ("[]", "23: frontend.privateip: the list is empty; at least one item must be in it"),
        (
            "[10.0.0.4, auto]",
            "34: frontend.privateip[1]: 'auto' stands alone, not in a list: privateip: auto",
        ),
        (
            "[10.0.0.4, 10.0.0.1-10.0.0.9]",
            "34: frontend.privateip[1]: 10.0.0.1-10.0.0.9 is listed already:"
            " frontend.privateip[0] (line 1); list every address once",
        ),
        (
            "[10.0.0.4, fd00::4]",
            "34: frontend.privateip[1]: fd00::4 is IPv6, but frontend.bind (line 1) is IPv4; write"
            " one of that family, or add a bind of this one",
        ),
        (
            "{}",
            "23: frontend.privateip: must be the address of this host that backends see, such as"
            " 172.19.0.4, or auto: the kernel chooses it, or keep: they see the client, not a"
            " mapping (key: value)",
        ),
    ],
)
def test_what_is_no_source_is_refused_with_the_reason(privateip: str, expected: str) -> None:
    assert [f"f:1:{expected}"] == problems_of(text_of(privateip))


def test_as_many_addresses_as_may_be_are_taken() -> None:
    assert str(source_of("10.0.0.0-10.0.0.255")) == "10.0.0.0-10.0.0.255"


def test_without_a_privateip_the_message_says_how_to_have_it_chosen() -> None:
    [problem] = problems_of("frontend: {bind: 10.0.0.1:80, backends: [10.0.0.2:80]}")
    assert "or auto: the kernel chooses it" in problem
