"""The command line of the lab's traffic."""

from __future__ import annotations

import pytest

from paraglider.lab.traffic import make_parser


def test_connect_makes_300_connections_unless_told() -> None:
    arguments = make_parser().parse_args(["connect", "--to", "[::1]:80"])
    assert (arguments.to, arguments.count, arguments.timeout, arguments.json) == (
        ("::1", 80),
        300,
        5.0,
        False,
    )


def test_serve_listens_where_told() -> None:
    arguments = make_parser().parse_args(["serve", "--listen", "10.0.0.1:80", "--name", "b1"])
    assert (arguments.listen, arguments.name, arguments.until_eof) == (
        ("10.0.0.1", 80),
        "b1",
        False,
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("connect", "--to"),
        ("connect --to 10.0.0.1", "expected ADDRESS:PORT"),
        ("connect --to 10.0.0.1:80 --count 0", "whole number from 1"),
        ("connect --to 10.0.0.1:80 --timeout -1", "seconds, 0 or more"),
        ("connect --to 10.0.0.1:80 --wait nan", "seconds, 0 or more"),
        ("hold --to 10.0.0.1:80 --interval soon", "seconds, 0 or more"),
        ("listen --to 10.0.0.1:80", "invalid choice"),
    ],
)
def test_wrong_line_is_explained(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args(line.split())
    assert message in capsys.readouterr().err
