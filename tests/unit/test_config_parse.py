"""Whole files: what is accepted, and every problem of a file with its place and its words."""

from ipaddress import ip_address

import pytest

from paraglider.config.model import Config
from paraglider.config.parse import parse_config
from paraglider.config.problems import MAX_PROBLEMS
from tests.unit.config_files import SEED_SAMPLE, backend, endpoint, frontend_at, problems_of

WRITE_BIND = "write an address such as 192.0.2.10"
WRITE_BACKEND = "write an address such as 172.19.0.2"
SMALLEST = (
    "nothing is configured; the smallest file is:"
    " frontend: {bind: 192.0.2.10:80, privateip: 172.19.0.4, backends: [172.19.0.2:5555]}"
)
BIND = "the address and port that clients connect to, such as 192.0.2.10:80, or a list"
PRIVATEIP = (
    "the address of this host that backends see, such as 172.19.0.4, or auto: the kernel chooses"
    " it, or keep: they see the client"
)
BACKENDS = "a list of servers, each ADDRESS:PORT or NAME:PORT, such as 172.19.0.2:5555"
KEYS = (
    "allowed here: name, bind, protocol, privateip, backends, balance, hash_key, affinity, check,"
    " on_down, no_backend, quorum, slow_start, resolve, hold, return_path, allow, deny,"
    " max_connections, rate, refuse"
)
ROOT_KEYS = "allowed here: frontend, frontends"


def frontend_with(backends: str) -> str:
    return f"frontend: {{bind: 10.0.0.1:80, privateip: 10.0.0.1, backends: {backends}}}"


def test_the_sample_of_the_seed_is_a_frontend_named_default() -> None:
    backends = tuple(backend(f"172.19.0.{last}", 5555) for last in (2, 3, 6))
    frontend = frontend_at(
        "default", endpoint("166.1.101.2", 4444), ip_address("172.19.0.4"), backends
    )
    assert Config("f", (frontend,)) == parse_config(SEED_SAMPLE, source="f")


@pytest.mark.parametrize(
    "text",
    [
        SEED_SAMPLE.replace(b"\n", b"\r\n"),
        SEED_SAMPLE.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + SEED_SAMPLE,
        b"--- # with a start\n" + SEED_SAMPLE + b"...\n",
        SEED_SAMPLE.replace(b"166.1.101.2:4444", b"'166.1.101.2:4444'"),
        b'{"frontend": {"bind": "166.1.101.2:4444", "privateip": "172.19.0.4", "backends":\n'
        b'\t["172.19.0.2:5555", "172.19.0.3:5555", "172.19.0.6:5555"]}}',
        SEED_SAMPLE.replace(b"frontend:\n", b"frontend:\n  name: default\n"),
        SEED_SAMPLE.replace(b"frontend:\n", "frontend: # größer\n".encode()),
    ],
)
def test_the_same_file_may_be_written_in_other_ways(text: bytes) -> None:
    """Line ends, a byte order mark, quotes, comments and JSON change nothing."""
    assert parse_config(SEED_SAMPLE, source="f") == parse_config(text, source="f")


def test_a_list_of_frontends_may_mix_families() -> None:
    text = """\
frontends:
  - name: web
    bind: 192.0.2.10:80
    privateip: 192.0.2.10
    backends: [172.19.0.2:80]
  - name: web_6
    bind: "[fd00::10]:80"
    privateip: fd00::10
    backends: ["[fd01::2]:80", '[fd01::3]:80']
"""
    expected = (
        frontend_at(
            "web",
            endpoint("192.0.2.10", 80),
            ip_address("192.0.2.10"),
            (backend("172.19.0.2", 80),),
        ),
        frontend_at(
            "web_6",
            endpoint("fd00::10", 80),
            ip_address("fd00::10"),
            (backend("fd01::2", 80), backend("fd01::3", 80)),
        ),
    )
    assert expected == parse_config(text.encode(), source="f").frontends


@pytest.mark.parametrize("name", ["no", "on", "010", "80", "1_0", "a", "a" * 15])
def test_a_name_is_the_text_that_was_written(name: str) -> None:
    """YAML 1.1 reads some of these as booleans or numbers; here they are names."""
    text = SEED_SAMPLE.decode().replace("frontend:\n", f"frontend:\n  name: {name}\n")
    assert name == parse_config(text.encode(), source="f").frontends[0].name


def test_the_same_backend_may_serve_two_frontends() -> None:
    text = """\
frontends:
  - {name: a, bind: 10.0.0.1:80, privateip: 10.0.0.1, backends: [10.0.0.9:80]}
  - {name: b, bind: 10.0.0.1:81, privateip: 10.0.0.1, backends: [10.0.0.9:80]}
"""
    assert len(parse_config(text.encode(), source="f").frontends) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [f"f:1:1: {SMALLEST}"]),
        ("# nothing yet\n", [f"f:2:1: {SMALLEST}"]),
        ("---\n", [f"f:2:1: {SMALLEST}"]),
        ("null", [f"f:1:1: {SMALLEST}"]),
        ("{}", [f"f:1:1: {SMALLEST}"]),
        ("[]", ["f:1:1: must begin with 'frontend:' or 'frontends:', and not be a list"]),
        (
            "frontend",
            ["f:1:1: must begin with 'frontend:' or 'frontends:', and not be a single value"],
        ),
        ("frontned: {}", [f"f:1:1: unknown key 'frontned'; did you mean 'frontend'? {ROOT_KEYS}"]),
        ("listen: {}", [f"f:1:1: unknown key 'listen'; {ROOT_KEYS}"]),
        (
            "bind: 10.0.0.1:80\nbackends: [x]",
            [
                "f:1:1: the key 'bind' belongs under 'frontend:'; indent it there",
                "f:2:1: the key 'backends' belongs under 'frontend:'; indent it there",
            ],
        ),
    ],
)
def test_a_file_that_configures_nothing_says_what_to_write(text: str, expected: list[str]) -> None:
    assert expected == problems_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "frontend:",
            "frontend: has no value; write the keys bind, privateip and backends, indented under"
            " it",
        ),
        (
            "frontend: x",
            "frontend: must be the keys bind, privateip and backends, indented under it, not a"
            " single value",
        ),
        (
            "frontend: [x]",
            "frontend: is one frontend, not a list; write a list under 'frontends:'",
        ),
        (
            "frontends:",
            "frontends: has no value; write a list of frontends, each with a name of its own;"
            " begin each frontend with '- name: '",
        ),
        (
            "frontends: {web: {}}",
            "frontends: must be a list of frontends, each with a name of its own, not a mapping"
            " (key: value); begin each frontend with '- name: '",
        ),
        ("frontends: []", "frontends: the list is empty; at least one frontend must be in it"),
        (
            "frontends: [~]",
            "frontends[0]: has no value; write the keys name, bind, privateip and backends",
        ),
        (
            "frontends: [[]]",
            "frontends[0]: must be the keys name, bind, privateip and backends, not a list",
        ),
        (
            frontend_with("10.0.0.2:80"),
            "frontend.backends: must be a list, each item on a line '- ADDRESS:PORT';"
            " '10.0.0.2:80' is a single value",
        ),
        (frontend_with(""), f"frontend.backends: has no value; write {BACKENDS}"),
        (
            frontend_with("{10.0.0.2: 80}"),
            f"frontend.backends: must be {BACKENDS}, not a mapping (key: value)",
        ),
        (
            frontend_with("[]"),
            "frontend.backends: the list is empty; at least one backend must be in it",
        ),
        (
            frontend_with("[~]"),
            "frontend.backends[0]: has no value; write an address and port such as 172.19.0.2:5555"
            ' or "[fd00::2]:5555"',
        ),
        (
            frontend_with("[[10.0.0.2:80]]"),
            "frontend.backends[0]: must be an address and port such as 172.19.0.2:5555 or"
            ' "[fd00::2]:5555", not a list',
        ),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_belongs_there(text: str, expected: str) -> None:
    [problem] = problems_of(text)
    assert expected == problem.split(": ", 1)[1]


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("22:22", "as a number in base 60"),
        ("1:20.5", "as a number in base 60"),
        ("no", "as false"),
        ("on", "as true"),
        ("Y", "as true"),
        ("010", "as an octal number"),
        ("80", "as a number"),
        ("0x50", "as a number"),
        ("8_0", "as a number"),
        ("1.5", "as a number"),
        ("2024-01-01", "as a date"),
    ],
)
def test_a_refused_value_says_what_yaml_11_makes_of_it(bind: str, expected: str) -> None:
    text = SEED_SAMPLE.decode().replace("166.1.101.2:4444", bind)
    [problem] = problems_of(text)
    assert f" (without quotes, YAML 1.1 reads {bind} {expected})" == problem[problem.rindex(" (") :]


def test_a_refused_value_in_quotes_says_nothing_of_yaml_11() -> None:
    text = SEED_SAMPLE.decode().replace("166.1.101.2:4444", "'22:22'")
    expected = (
        "f:2:9: frontend.bind: '22' is not an IPv4 address, which has four numbers;"
        " write an address such as 192.0.2.10"
    )
    assert [expected] == problems_of(text)


@pytest.mark.parametrize("null", ["", "~", "null", "Null", "NULL"])
def test_a_key_without_a_value_says_what_belongs_there(null: str) -> None:
    text = SEED_SAMPLE.decode().replace("166.1.101.2:4444", null)
    [problem] = problems_of(text)
    assert f"frontend.bind: has no value; write {BIND}" == problem.split(": ", 1)[1]


def test_every_problem_of_a_file_comes_at_once_in_its_order() -> None:
    text = """\
frontends:
  - name: Web
    bind: 10.0.0.1/8:80
    backends:
      - 10.0.0.2/8
      - 10.0.0.2:70000
  - bindd: 10.0.0.1:80
    privateip: 127.0.0.1
    backends: []
    backends: [10.0.0.2:80]
    colour: red
"""
    expected = [
        "f:2:5: frontends[0].privateip: is missing: " + PRIVATEIP,
        "f:2:11: frontends[0].name: 'Web' is not a name; a name is 1 to 15 of a-z, 0-9, '_' and"
        " '-', the first a letter or a digit",
        "f:3:11: frontends[0].bind: '10.0.0.1/8' holds a '/': networks and URLs are not supported"
        " here; " + WRITE_BIND,
        "f:5:9: frontends[0].backends[0]: '10.0.0.2/8' holds a '/': networks and URLs are not"
        " supported here; " + WRITE_BACKEND,
        "f:6:9: frontends[0].backends[1]: port '70000' is out of range; a port is a number from 1"
        " to 65535",
        f"f:7:5: frontends[1]: unknown key 'bindd'; did you mean 'bind'? {KEYS}",
        "f:7:5: frontends[1].name: is missing: what rules and metrics call the frontend, such as"
        " web",
        "f:8:16: frontends[1].privateip: 127.0.0.1 is a loopback address: backends could not"
        " answer to it; use the address of this host in the network of the backends",
        "f:9:15: frontends[1].backends: the list is empty; at least one backend must be in it",
        "f:10:5: frontends[1]: the key 'backends' stands here again, first on line 9; keep one",
        f"f:11:5: frontends[1]: unknown key 'colour'; {KEYS}",
    ]
    assert expected == problems_of(text)


@pytest.mark.parametrize("key", ["private_ip", "privateIP", "private-ip", "privatip", "PRIVATEIP"])
def test_a_misspelt_key_is_told_once_with_the_nearest_known_one(key: str) -> None:
    """That the right key is missing then would say the same thing twice."""
    text = SEED_SAMPLE.decode().replace("privateip", key)
    expected = f"f:3:3: frontend: unknown key '{key}'; did you mean 'privateip'? {KEYS}"
    assert [expected] == problems_of(text)


def test_missing_keys_stand_where_the_mapping_begins() -> None:
    expected = [
        f"f:1:11: frontend.bind: is missing: {BIND}",
        f"f:1:11: frontend.privateip: is missing: {PRIVATEIP}",
        f"f:1:11: frontend.backends: is missing: {BACKENDS}",
    ]
    assert expected == problems_of("frontend: {}")


def test_a_second_frontend_key_points_to_the_list() -> None:
    text = SEED_SAMPLE + SEED_SAMPLE
    expected = (
        "f:8:1: the key 'frontend' stands here again, first on line 1;"
        " for several, write a list 'frontends:'"
    )
    assert [expected] == problems_of(text)


def test_a_key_that_is_no_word_is_refused() -> None:
    expected = [
        "f:1:3: a key must be a word, not a list",
        "f:3:3: a key must be a word, not a mapping (key: value)",
        "f:5:1: a key must be a word, not nothing",
    ]
    assert expected == problems_of("? [a]\n: b\n? {}\n: c\n~: d")


def test_columns_count_characters_and_not_bytes() -> None:
    text = 'frontend: {"größe": 1, bind: x, privateip: 10.0.0.1, backends: [10.0.0.2:80]}'
    expected = [
        rf"f:1:12: frontend: unknown key 'gr\xf6\xdfe'; {KEYS}",
        "f:1:30: frontend.bind: 'x' has no port; write ADDRESS:PORT or INTERFACE:PORT, such as"
        " eth0:80",
    ]
    assert expected == problems_of(text)


def test_no_more_problems_are_told_than_anybody_mends() -> None:
    problems = problems_of(frontend_with("[" + "x:0," * 5000 + "]"))
    last = f"f: there are more than {MAX_PROBLEMS} problems; the first ones are shown"
    assert (MAX_PROBLEMS + 1, last) == (len(problems), problems[-1])


def test_exactly_as_many_problems_as_are_told_leave_none_out() -> None:
    assert len(problems_of(frontend_with("[" + "x:0," * MAX_PROBLEMS + "]"))) == MAX_PROBLEMS


def test_what_hangs_below_an_unknown_key_is_not_read_for_ever() -> None:
    problems = problems_of("extra: [" + "1," * 50_000 + "]\n")
    expected = [f"f:1:1: unknown key 'extra'; {ROOT_KEYS}", "f: the rest of the file was not read"]
    assert expected == problems
