"""All rules of a network namespace, as text that can be compared."""

from __future__ import annotations

import re

import pytest

from tests.compose.engine import HARDENED, IMAGE, Ended, Engine

# Rules that somebody else may have: before ours, in the same chains, for the same port.
_FOREIGN = """
set -e
for iptables in iptables ip6tables; do
  run=$iptables-$variant
  $run -t filter -P FORWARD DROP
  $run -t filter -N SOMEBODY
  $run -t filter -A FORWARD -p tcp --dport 5555 -j SOMEBODY
  $run -t filter -A SOMEBODY -j RETURN
  $run -t nat -A PREROUTING -p tcp --dport 4444 -j REDIRECT --to-ports 4445
  $run -t nat -A POSTROUTING -p tcp --dport 25 -j MASQUERADE
  # A legacy table that was used once stays, empty: no program can take it away again.
  test $variant = nft || $run -t mangle -A FORWARD -p tcp --dport 26 -j ACCEPT
done
"""

# Reading the tables of the legacy variant would make them: only where there are some.
_READ = """
for family in ip ip6; do
  echo "== $family nft"
  ${family}tables-nft-save
  if test -n "$(cat /proc/net/${family}_tables_names)"; then
    echo "== $family legacy"
    ${family}tables-legacy-save
  fi
done
echo "== nft"
nft list tables
"""

_POWERS = (*HARDENED, "--cap-add=NET_RAW", "--tmpfs=/run")
_SHELL = (*_POWERS, "--entrypoint=sh")


def skip_without_legacy(engine: Engine) -> None:
    """Skip where there can be no rules of the legacy variant: kernels may be built without, and
    nothing that is installed changes that."""
    options = ("--network=none", "--entrypoint=iptables-legacy")
    ended = engine.run(*_POWERS, *options, IMAGE, "-t", "nat", "-S")
    if ended.code != 0:
        pytest.skip(f"the kernel has no legacy iptables: {ended.err.strip()}")


def add_foreign_rules(engine: Engine, network: str, variant: str) -> Ended:
    """Give a namespace rules that are not ours, in one variant of iptables."""
    return engine.run(*_SHELL, network, IMAGE, "-c", f"variant={variant}{_FOREIGN}")


def read_rules(engine: Engine, network: str) -> str:
    """Return the rules of both families and variants, without counters, comments and warnings."""
    ended = engine.run(*_SHELL, network, IMAGE, "-c", _READ)
    assert ended.code == 0, ended.err
    return without_counters(ended.out)


def require_idle_host(engine: Engine) -> None:
    """Fail where this host balances something: a test on its network would take that away."""
    rules = read_rules(engine, "--network=host")
    assert "PARAGLIDER" not in rules, "this host has rules of Paraglider; run 'paraglider stop'"


def read_handles(engine: Engine, network: str) -> str:
    """Return what nftables has, each rule with its handle: one that is written again has another.

    Empty where all rules are of the legacy variant.
    """
    options = (network, "--entrypoint=nft")
    ended = engine.run(*HARDENED, *options, IMAGE, "--handle", "--stateless", "list", "ruleset")
    assert ended.code == 0, ended.err
    return re.sub(r"counter packets \d+ bytes \d+", "counter", ended.out)


def without_counters(saved: str) -> str:
    """Return what iptables-save printed without comments and counts."""
    lines = (line for line in saved.splitlines() if not line.startswith("#"))
    return "\n".join(re.sub(r" \[\d+:\d+\]$", "", line) for line in lines)
