"""The limits on a document, its YAML errors in our words, and files that try to explode.

Where PyYAML has libyaml, both of its scanners are held to the same messages.
"""

import tracemalloc
from collections.abc import Callable

import pytest
import yaml

from paraglider.config.document import MAX_DEPTH, MAX_EVENTS, Document
from paraglider.config.parse import parse_config
from paraglider.config.problems import Unreadable
from paraglider.config.text import MAX_SIZE_BYTES
from paraglider.errors import ConfigError

LOADERS: list[type] = [yaml.SafeLoader]
if yaml.__with_libyaml__:
    LOADERS.append(yaml.CSafeLoader)

FRONTEND = "frontend:\n  bind: 10.0.0.1:80\n  privateip: 10.0.0.1\n  backends: [10.0.0.2:80]\n"


def read_all(text: bytes, loader: type) -> list[str]:
    """Read a document without looking at it; return what stopped the reading."""
    try:
        document = Document(text, loader=loader)
        document.skip()
        document.close()
    except Unreadable as unreadable:
        return [f"{place.line}:{place.column}: {said}" for place, said in unreadable.findings]
    return []


BRACKETS = "an address in brackets needs quotes, or YAML takes it for a list: write"


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n\tb: c", "2:1: not YAML: a tab stands here, where YAML takes only spaces"),
        ("a: @x", "1:4: not YAML: a value may not begin with this character; put the value in"),
        ("a: `x`", "1:4: not YAML: a value may not begin with this character; put the value in"),
        ("a: %x", "1:4: not YAML: a value may not begin with this character; put the value in"),
        ("a: 10.0.0.1: 80", "1:12: not YAML: a ':' stands where no key can be: either the line"),
        ("a b\nc: d", "2:2: not YAML: a ':' stands where no key can be: either the line above"),
        ("a: b\n c: d", "2:3: not YAML: a ':' stands where no key can be: either the line above"),
        ("a: ? b", "1:4: not YAML: a '?' cannot begin a key here; remove it"),
        ("a: b\nc", "2:1: not YAML: this line is neither 'key: value' nor '- item'"),
        ("a:\n  - b\n c: d", "3:2: not YAML: this line does not fit the lines above: indent"),
        ("- a\nb: c", "2:1: not YAML: this line does not fit the lines above: indent"),
        ("a: - b", "1:4: not YAML: a list item ('- ') cannot begin here: use a new line"),
        ("a: 'b", "1:4: not YAML: this quote is never closed, or an escape (\\) in it is unknown"),
        ('a: "\\q"', "1:4: not YAML: this quote is never closed, or an escape (\\) in it"),
        ("a: [b\nc: d", "1:4: not YAML: the list that begins with '[' here is not closed by ']'"),
        ("[a, b", "1:1: not YAML: the list that begins with '[' here is not closed by ']' or"),
        ("{a: b", "1:1: not YAML: what begins with '{' here is not closed by '}' or lacks a ','"),
        ("a: ]", "1:4: not YAML: a value was expected here"),
        (
            "a: *:80",
            "1:4: not YAML: YAML takes '*' for an alias, which is not supported; as a bind",
        ),
        ("a: & b", "1:4: not YAML: anchors (&) are not supported; put the value in quotes if it"),
        ("a: !<", "1:6: not YAML: tags (!) are not supported; put the value in quotes if it is"),
        ("a: |x\n b", "1:5: not YAML: the text that begins with '|' or '>' is not well-formed"),
        ("a: b\n...\nc", "3:1: not YAML: the document ends above, and this stands after it"),
        ("a: *b", "1:4: an alias or anchor (* or &) is not supported here; write the value out"),
        ("a: &b c", "1:4: an alias or anchor (* or &) is not supported here; write the value out"),
        ("<<: {a: b}", "1:1: a merge key (<<) is not supported here; write the keys out"),
        ("a: !!str b", "1:4: a tag (!) is not supported here; remove it"),
        ("a: !x [b]", "1:4: a tag (!) is not supported here; remove it"),
        ("--- a\n--- b", "2:1: a second document begins here; write all of it as one, without"),
    ],
)
def test_what_is_not_yaml_to_us_is_told_in_our_words(
    text: str, expected: str, loader: type
) -> None:
    [said] = read_all(text.encode(), loader)
    assert expected == said[: len(expected)]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  b: [fd00::1]:80\n  c: d", ['2:6: {} "[fd00::1]:80"']),
        ("b:\n - [fd00::1]:80\n - [::1]:8", ['2:4: {} "[fd00::1]:80"', '3:4: {} "[::1]:8"']),
        ("b: [[fd00::1]:80, [::1]:80]", ['1:5: {} "[fd00::1]:80"', '1:19: {} "[::1]:80"']),
        ("{a: [fe80::1%eth0]:80}", ['1:5: {} "[fe80::1%eth0]:80"']),
        (
            "# [::1]:1\na: \"[::2]:2\" # [::3]:3\nb: 'x [::4]:4'\nc: [fd00::1]:80",
            ['4:4: {} "[fd00::1]:80"'],
        ),
    ],
)
def test_an_ipv6_address_without_quotes_is_told_wherever_it_stands(
    text: str, expected: list[str], loader: type
) -> None:
    """YAML takes the bracket for a list; in comments and in quotes it is nobody's mistake."""
    assert [line.format(BRACKETS) for line in expected] == read_all(text.encode(), loader)


def test_an_ipv6_address_without_quotes_is_told_where_yaml_can_read_it() -> None:
    """In a list, YAML of some versions reads ``[fd00::1]:80`` as a mapping with a list as key."""
    text = "frontend: {backends: [[fd00::1]:80]}"
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), source="f")
    assert f'f:1:23: {BRACKETS} "[fd00::1]:80"' == str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a\x00b", "1:2: the control character U+0000 stands here; remove it"),
        (b"a: b\n# \x1b[2J", "2:3: the control character U+001B stands here; remove it"),
        ("ä: \x85".encode(), "1:4: the control character U+0085 stands here; remove it"),
        ("a: \u2028".encode(), "1:4: the control character U+2028 stands here; remove it"),
        ("a\r\nb\rc\n\ufeff".encode(), "4:1: the control character U+FEFF stands here; remove it"),
        (b"a: \xe9", "1:4: the byte 0xe9 is not UTF-8: save the file as UTF-8"),
        ("a: b".encode("utf-16"), "1:1: is UTF-16: save the file as UTF-8"),
        (b"%YAML 1.2\n---\na", "1:1: a line may not begin with '%': YAML directives are not"),
        (b"a\n%TAG", "2:1: a line may not begin with '%': YAML directives are not supported"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(text: bytes, expected: str) -> None:
    [said] = read_all(text, LOADERS[-1])
    assert expected == said[: len(expected)]


@pytest.mark.parametrize("loader", LOADERS)
def test_an_escape_beyond_unicode_is_refused(loader: type) -> None:
    assert len(read_all(rb'a: "\UFFFFFFFF"', loader)) == 1


def test_nesting_is_allowed_to_the_limit() -> None:
    assert read_all(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, LOADERS[-1]) == []


TOO_DEEP = f"lists and mappings are nested deeper than {MAX_DEPTH} here; write them flat"
NO_ALIAS = "an alias or anchor (* or &) is not supported here; write the value out"


def repeated(part: str, before: str = "", after: str = "") -> bytes:
    """Return a text as large as may be, what stands `after` included."""
    return (before + part * (MAX_SIZE_BYTES // len(part))).encode()[
        : MAX_SIZE_BYTES - len(after)
    ] + after.encode()


# Name -> (file, the beginning of the only problem that is told).
EXPLOSIVE: dict[str, tuple[Callable[[], bytes], str]] = {
    "billion laughs": (
        lambda: b"a: &a [x, x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (i, i) for i in range(30)),
        f"f:1:4: {NO_ALIAS}",
    ),
    "merge keys": (
        lambda: b"a: &a {b: c}\nd:\n  <<: [" + b"*a," * 100 + b"*a]\n",
        f"f:1:4: {NO_ALIAS}",
    ),
    "50,000 brackets": (lambda: b"[" * 50_000, f"f:1:13: {TOO_DEEP}"),
    "1,000,000 brackets": (lambda: b"[" * 1_000_000, f"f:1:13: {TOO_DEEP}"),
    "brackets under frontend": (lambda: repeated("[", "frontend: "), f"f:1:22: {TOO_DEEP}"),
    "braces": (lambda: repeated("{"), f"f:1:13: {TOO_DEEP}"),
    "lists in one line": (lambda: repeated("- "), f"f:1:25: {TOO_DEEP}"),
    "keys in one line": (lambda: repeated("? "), f"f:1:25: {TOO_DEEP}"),
    "deep indentation": (
        lambda: b"".join(b" " * i + b"a:\n" for i in range(1400)),
        f"f:13:13: {TOO_DEEP}",
    ),
    "tag directives": (
        lambda: b"".join(b"%%TAG !a%d! x\n" % i for i in range(50_000)),
        "f:1:1: a line may not begin with '%'",
    ),
    "anchors": (lambda: repeated("&a "), f"f:1:1: {NO_ALIAS}"),
    "tags": (lambda: repeated("!!a "), "f:1:1: a tag (!) is not supported here"),
    "documents": (lambda: repeated("---\n"), "f:2:1: a second document begins here"),
    "commas": (lambda: repeated(","), "f:1:1: not YAML: a value was expected here"),
    "commas in a list": (lambda: repeated(",", "["), "f:1:2: not YAML: a value was expected"),
    "a huge key": (lambda: repeated("a", "frontend: {"), "f:1:11: not YAML: what begins with"),
    "an open quote": (lambda: repeated("a", "a: '"), "f:1:4: not YAML: this quote is never"),
    "empty lines": (
        lambda: b"\n" * (MAX_SIZE_BYTES - 4) + b"a: @",
        f"f:{MAX_SIZE_BYTES - 3}:4: not YAML: a value may not begin with this character",
    ),
    "NUL": (lambda: b"\0" * MAX_SIZE_BYTES, "f:1:1: the control character U+0000"),
    "one byte too many": (
        lambda: b"#" * (MAX_SIZE_BYTES + 1),
        f"f: is larger than {MAX_SIZE_BYTES} bytes",
    ),
}
# Name -> file. These are YAML, and wrong in as many ways as there are values.
BOUNDED: dict[str, Callable[[], bytes]] = {
    "a long list at the root": lambda: repeated("a, ", "[a, "),
    "a long list of frontends": lambda: repeated("a, ", "frontends: ["),
    "empty frontends": lambda: repeated("{}, ", "frontends: ["),
    "a long list of names": lambda: repeated("a, ", "frontend: {backends: ["),
    "one backend for ever": lambda: repeated("10.0.0.2:80, ", "frontend: {backends: ["),
    "a check for ever": lambda: repeated("200, ", "frontend: {check: {type: http, status: ["),
    "a wrong check for ever": lambda: repeated("x, ", "frontend: {check: {type: http, status: ["),
    "checks without end": lambda: repeated("{check: {port: 0}}, ", "frontend: {backends: ["),
    "a long status": lambda: repeated("200-", "frontend: {check: {status: '", "'}}"),
    "a long duration": lambda: repeated("1", "frontend:\n  resolve: "),
    "a long name": lambda: repeated("a.", "frontend:\n  backends:\n    - "),
    "one bind for ever": lambda: repeated("10.0.0.1:80, ", "frontend: {bind: ["),
    "a bind of ports for ever": lambda: repeated("80,", "frontend: {bind: '*:", "'}"),
    "one source for ever": lambda: repeated("10.0.0.1, ", "frontend: {privateip: ["),
    "one client for ever": lambda: repeated("10.0.0.1, ", "frontend: {allow: ["),
    "more clients than there may be": lambda: (
        b"frontend: {deny: ["
        + b", ".join(b"10.%d.%d.%d" % (i >> 16, i >> 8 & 255, i & 255) for i in range(250_000))
    ),
    "lists for backends": lambda: repeated("[], ", "frontend: {backends: ["),
    "bare brackets": lambda: repeated("[::1]:80, ", "frontend: {backends: ["),
    "unknown keys": lambda: b"".join(b"a%d: b\n" % i for i in range(90_000)),
    "doubled keys": lambda: repeated("frontend:\n"),
    "a long value": lambda: repeated("1.", "frontend:\n  bind: "),
    "a long key": lambda: repeated("a", "? "),
    "wide characters": ("frontend:\n  bind: " + "\U0001f600" * 1_000_000).encode,
    "an unknown list": lambda: repeated("a, ", "x: ["),
}


def explode(text: bytes) -> tuple[list[str], int]:
    """Parse `text`; return the problems and the peak of memory in bytes that it took.

    libyaml's own buffers are not in the peak: they hold the text once more.
    """
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as caught:
            parse_config(text, source="f")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return [str(problem) for problem in caught.value.problems], peak


@pytest.mark.parametrize("name", EXPLOSIVE)
def test_a_file_that_explodes_is_left_at_the_fuse(name: str) -> None:
    """The limit is the only problem that is told, and it takes less than 10 MB to find."""
    make, expected = EXPLOSIVE[name]
    problems, peak = explode(make())
    assert ([expected], True) == ([problem[: len(expected)] for problem in problems], peak < 10**7)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_file_of_mistakes_takes_little_memory(name: str) -> None:
    """At most that of its longest value, for each byte of which Python sets aside up to five."""
    problems, peak = explode(BOUNDED[name]())
    assert (
        len(problems) <= 101,
        max(map(len, problems)) < 600,
        peak < 5 * MAX_SIZE_BYTES,
    ) == (True, True, True)


def test_there_is_a_limit_on_values_even_where_all_are_right() -> None:
    """Each empty mapping is two events, so a text may hold more than the limit."""
    assert (read_events(b"[" + b"{}, " * (MAX_SIZE_BYTES // 4 - 2) + b"]")) == [
        "1:1599995: more than 800000 keys, values and lists; this is not a configuration"
    ]


def read_events(text: bytes) -> list[str]:
    """Read every event without a limit on what is skipped."""
    document = Document(text)
    try:
        for _ in document.each_entry():
            for _ in document.each_entry():
                pass
    except Unreadable as unreadable:
        return [f"{place.line}:{place.column}: {said}" for place, said in unreadable.findings]
    return []


def test_ten_thousand_frontends_are_read() -> None:
    lines = ["frontends:"]
    for i in range(10_000):
        lines += [
            f"- name: f{i}",
            f"  bind: 10.{i // 256}.{i % 256}.1:80",
            "  privateip: 10.0.0.1",
            "  backends: [172.19.0.2:80]",
        ]
    text = "\n".join(lines).encode()
    assert (
        len(text) <= MAX_SIZE_BYTES,
        len(parse_config(text, source="f").frontends),
    ) == (True, 10_000)


def test_a_thousand_frontends_of_a_hundred_backends_are_read() -> None:
    lines = ["frontends:"]
    for i in range(1_000):
        host = f"{i >> 8}.{i & 255}"
        lines += [f"  - name: f{i}", f"    bind: 10.0.{host}:80", "    privateip: 10.1.0.1"]
        lines.append("    backends:")
        lines += [f"      - 10.{100 + j}.{host}:8080" for j in range(100)]
    text = "\n".join(lines).encode()
    frontends = parse_config(text, source="f").frontends
    assert (len(text) > 2_500_000, len(frontends), {len(f.backends) for f in frontends}) == (
        True,
        1_000,
        {100},
    )


def test_the_limits_let_a_full_file_of_short_lines_pass() -> None:
    """A backend takes an event, and at least eleven bytes with its comma."""
    assert MAX_SIZE_BYTES // 11 < MAX_EVENTS


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [(r'"\xff"', r'"\xff"'), ("'a''b' # c", "'a''b'"), ("a b", "a b"), ("[a, b]", "[")],
)
def test_a_value_is_known_as_it_was_written(loader: type, value: str, expected: str) -> None:
    """Behind characters of two, three and four bytes, too, and a byte order mark."""
    document = Document(f"\ufeff'é€\U0001f600': {value}".encode(), loader=loader)
    for _ in document.each_entry():
        document.skip()
        assert document.written() == expected
        document.skip()
