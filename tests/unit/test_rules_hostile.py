"""No string of a file becomes rule text."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paraglider.config.parse import parse_config
from paraglider.errors import ConfigError
from paraglider.health.service import standing_services
from paraglider.rules.restore import lint_restore
from paraglider.rules.wanted import plan_states, render_states

# What has broken out of other programs, and pieces of what is right, to get far enough to try.
_PIECES = st.sampled_from(
    [
        "\n", "\r", "\\n", "\x00", '"', "'", "`", "$(reboot)", ";", "#", " ", "\t", "\\", "%0a",
        "\u2028", "\u0085", "\n*filter\n:INPUT DROP\n", "\nCOMMIT\n", " -j ACCEPT", "-A INPUT",
        "--to-destination", "0.0.0.0/0", "/32", ",", "-", ":", "[", "]", "::", "1", "80", "00080",
        "web", "default", "PARAGLIDER-DNAT", "10.0.0.11", "10.0.0.11:80", "fd00::1", "٣",
    ]
)  # fmt: skip
_STRINGS = st.one_of(
    st.text(max_size=40),
    st.lists(_PIECES, max_size=6).map("".join),
    st.tuples(st.sampled_from(["10.0.0.11:80", "10.0.0.4", "web"]), _PIECES).map("".join),
    st.tuples(_PIECES, st.sampled_from(["10.0.0.11:80", "10.0.0.4", "web"])).map("".join),
)
_STRINGS_AT_ONCE = 20


@settings(
    max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(st.lists(_STRINGS, min_size=_STRINGS_AT_ONCE, max_size=_STRINGS_AT_ONCE))
def test_10_000_hostile_strings_make_no_line_outside_our_grammar(strings: list[str]) -> None:
    """Each string stands in some place of a file that is right otherwise; where it is taken, all
    that would be given to iptables-restore passes the grammar, line by line."""
    for index, string in enumerate(strings):
        try:
            config = parse_config(_file(string, place=index % 5), source="hostile")
        except ConfigError:
            continue
        for _, rendered in render_states(plan_states(standing_services(config, {}))):
            lint_restore(rendered)


def _file(string: str, *, place: int) -> bytes:
    changes: list[dict[str, object]] = [
        {"name": string},
        {"bind": string},
        {"privateip": string},
        {"backends": [string]},
        {string: "x"},
    ]
    frontend = {
        "name": "web",
        "bind": "192.0.2.10:80",
        "privateip": "10.0.0.4",
        "backends": ["10.0.0.12:80"],
        **changes[place],
    }
    return json.dumps({"frontends": [frontend]}, ensure_ascii=False).encode(errors="replace")
