"""The table of a tally, and its JSON."""

from __future__ import annotations

from paraglider.lab.results import Answer, Results, parse_json, render_json, render_table

EVEN = Results(
    tuple(Answer(f"172.19.0.{last}:5555", "172.19.0.4") for last in (2, 3, 6) for _ in range(100))
)


def test_table_shows_each_backend_with_its_share_and_the_total_last() -> None:
    assert render_table(EVEN) == (
        "backend          connections    share   peer address seen\n"
        "172.19.0.2:5555          100   33.3 %   172.19.0.4\n"
        "172.19.0.3:5555          100   33.3 %   172.19.0.4\n"
        "172.19.0.6:5555          100   33.3 %   172.19.0.4\n"
        "all                      300  100.0 %   172.19.0.4\n"
    )


def test_table_names_all_peer_addresses_of_a_backend() -> None:
    results = Results((Answer("b1", "10.0.0.2"), Answer("b1", "10.0.0.1")))
    assert render_table(results).splitlines()[1].endswith("10.0.0.1, 10.0.0.2")


def test_table_counts_failures_by_reason() -> None:
    results = Results((Answer("b1", "10.0.0.1"),), ("timed out", "connection refused", "timed out"))
    assert render_table(results).splitlines()[3:] == [
        "3 of 4 connections failed:",
        "  2 x timed out",
        "  1 x connection refused",
    ]


def test_table_of_no_answer_has_no_share() -> None:
    assert render_table(Results((), ("timed out",))).splitlines()[1].split() == [
        "all",
        "0",
        "-",
        "-",
    ]


def test_json_is_read_back_as_it_was() -> None:
    results = Results((Answer("b2", "::1"), Answer("b1", "::2")), ("timed out",))
    assert parse_json(render_json(results)) == results
