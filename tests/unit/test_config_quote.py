"""Foreign text in messages is short, on one line and in ASCII."""

import pytest

from paraglider.config.quote import printable, quoted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web:80", "'web:80'"),
        ("", "''"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[2J", r"'\x1b[2J'"),
        ("\u202e", r"'\u202e'"),
        ("\uff11", r"'\uff11'"),
        ("\udcff", r"'\udcff'"),
        ("x" * 40, "'" + "x" * 40 + "'"),
        ("x" * 41, "'" + "x" * 40 + "'... (41 characters)"),
    ],
)
def test_quoted_text_is_escaped_and_cut(text: str, expected: str) -> None:
    assert expected == quoted(text)


def test_a_path_is_escaped_but_never_cut() -> None:
    path = "/etc/" + "é" * 100
    assert path + r"\n\x1b\udcff" == printable(path + "\n\x1b\udcff")
