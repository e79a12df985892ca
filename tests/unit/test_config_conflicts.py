"""What in one file contradicts itself: doubled, circular, or of two families."""

from __future__ import annotations

from tests.unit.config_files import SEED_SAMPLE, problems_of


def test_a_frontend_and_a_list_of_frontends_exclude_each_other() -> None:
    expected = "f:8:1: frontends: the file has both this and frontend (line 1); keep one of them"
    assert [expected] == problems_of(SEED_SAMPLE + b"frontends: []\n")


def test_what_is_doubled_names_the_place_of_the_first() -> None:
    text = """\
frontends:
  - {name: a, bind: 10.0.0.1:80, privateip: 10.0.0.1, backends: [10.0.0.9:80]}
  - name: a
    bind: 10.0.0.1:80
    privateip: 10.0.0.1
    backends:
      - 10.0.0.9:80
      - 10.0.0.9:80
"""
    expected = [
        "f:3:11: frontends[1].name: the name a is taken by frontends[0].name (line 2)",
        "f:4:11: frontends[1].bind: 10.0.0.1:80 is a bind already: frontends[0].bind (line 2);"
        " each needs an address and port of its own",
        "f:8:9: frontends[1].backends[1]: 10.0.0.9:80 is listed already:"
        " frontends[1].backends[0] (line 7); list every backend once",
    ]
    assert expected == problems_of(text)


def test_two_spellings_of_one_address_are_doubled() -> None:
    text = (
        'frontend: {bind: "[fd00::1]:80", privateip: fd00::1,'
        ' backends: ["[fd00::2]:80", "[FD00:0::2]:80"]}'
    )
    expected = (
        "f:1:81: frontend.backends[1]: [fd00::2]:80 is listed already:"
        " frontend.backends[0] (line 1); list every backend once"
    )
    assert [expected] == problems_of(text)


def test_a_backend_that_is_a_bind_of_the_file_is_a_loop() -> None:
    text = """\
frontends:
  - {name: a, bind: 10.0.0.1:80, privateip: 10.0.0.1, backends: [10.0.0.1:80]}
  - {name: b, bind: 10.0.0.1:81, privateip: 10.0.0.1, backends: [10.0.0.1:80]}
"""
    loop = (
        "10.0.0.1:80 is a bind of this configuration: frontends[0].bind (line 2);"
        " connections would come back here for ever, name a server"
    )
    expected = [
        f"f:2:66: frontends[0].backends[0]: {loop}",
        f"f:3:66: frontends[1].backends[0]: {loop}",
    ]
    assert expected == problems_of(text)


def test_addresses_of_the_other_family_are_refused() -> None:
    text = """\
frontend:
  backends: ["[fd00::2]:80", 10.0.0.2:80]
  privateip: fd00::1
  bind: 10.0.0.1:80
"""
    reason = (
        "but frontend.bind (line 4) is IPv4; write one of that family, or add a bind of this one"
    )
    expected = [
        f"f:2:14: frontend.backends[0]: fd00::2 is IPv6, {reason}",
        f"f:3:14: frontend.privateip: fd00::1 is IPv6, {reason}",
    ]
    assert expected == problems_of(text)
