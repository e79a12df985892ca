"""The environment variables of Paraglider: what each one is, and which are unknown.

The one list of them. Kubernetes and Docker add variables of their own, named after a service or a
container called paraglider; these are not taken for misspelt ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from paraglider.config.address import Refused
from paraglider.config.duration import parse_duration
from paraglider.config.quote import printable, quoted
from paraglider.errors import ConfigError, Problem

SOURCE = "environment"
PREFIX = "PARAGLIDER_"

BIND = "PARAGLIDER_BIND"
PRIVATEIP = "PARAGLIDER_PRIVATEIP"
BACKENDS = "PARAGLIDER_BACKENDS"
CONFIG_YAML = "PARAGLIDER_CONFIG_YAML"
IPTABLES = "PARAGLIDER_IPTABLES"
DRAIN = "PARAGLIDER_DRAIN"
RUN = "PARAGLIDER_RUN"
HEALTHCHECK = "PARAGLIDER_HEALTHCHECK"
# Set by the image, as systemd and podman do: what a user can do about a missing file differs there.
CONTAINER = "container"

VARIABLES = {
    BIND: "the address and port that clients connect to; several with spaces between",
    PRIVATEIP: "the address that backends see as the source",
    BACKENDS: "the backends, with commas between",
    CONFIG_YAML: "the whole configuration, as YAML",
    IPTABLES: "the variant of iptables: nft or legacy (default: the host's)",
    DRAIN: "how long connections may end at SIGTERM, such as 30s (default: 0s)",
    RUN: "the folder of the admin socket (default: /run/paraglider)",
    HEALTHCHECK: "backends: the image's health check fails also while a frontend has no backend",
}

# A service link of Kubernetes, and a legacy link of Docker.
_NOT_OURS = re.compile(r"PARAGLIDER_(?:SERVICE_(?:HOST|PORT.*)|PORT|PORT_.*|NAME|ENV_.*)")
MAX_DRAIN_S = 86400.0


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each variable with our prefix that nothing reads."""
    unknown = [
        name
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in VARIABLES and not _NOT_OURS.fullmatch(name)
    ]
    return [_explain(name) for name in unknown]


def _explain(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.8)
    mend = f"did you mean {near[0]}?" if near else f"known are {', '.join(VARIABLES)}"
    return f"unknown environment variable {printable(name)}; {mend}"


def read_drain(environment: Mapping[str, str]) -> float:
    """Return the seconds of PARAGLIDER_DRAIN, 0 where it is not set. Raises ConfigError."""
    text = environment.get(DRAIN, "").strip()
    if not text:
        return 0.0
    try:
        return parse_duration(text, 0.0, MAX_DRAIN_S)
    except Refused as refused:
        raise _wrong(DRAIN, str(refused)) from refused


def read_iptables(environment: Mapping[str, str]) -> str | None:
    """Return `nft` or `legacy`, None where PARAGLIDER_IPTABLES is not set. Raises ConfigError."""
    asked = environment.get(IPTABLES, "").strip()
    if asked and asked not in ("nft", "legacy"):
        raise _wrong(IPTABLES, f"{quoted(asked)} is not a variant of iptables; write nft or legacy")
    return asked or None


def _wrong(name: str, message: str) -> ConfigError:
    return ConfigError([Problem(SOURCE, None, None, name, message)])
