"""Firewall: chains of nftables that drop what we accept.

It looks, through nft, and changes nothing: what a firewall lets through is for its owner to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from paraglider.config.model import Family
from paraglider.kernel.process import Run, run_program

# A base chain as `nft list chains` prints it; iptables' own tables hold our accept, and pass.
_TABLE_LINE = re.compile(r"table (\w+) (\S+) \{")
_CHAIN_LINE = re.compile(r"chain (\S+) \{")
_DROPS = re.compile(r"type filter hook forward .*policy drop;")
_IPTABLES_CHAINS = {("ip", "filter", "FORWARD"), ("ip6", "filter", "FORWARD")}
_SEEN_BY = {Family.IPV4: ("ip", "inet"), Family.IPV6: ("ip6", "inet")}


def survey_firewall(
    families: Collection[Family],
    *,
    nft_path: str | None,
    run: Run = run_program,
) -> list[str]:
    """Return one sentence for each chain of nftables that drops what we accept.

    An accept is final in its own chain only; a drop is final everywhere. Needs NET_ADMIN; finds
    nothing where nft is not installed (`nft_path` None).
    """
    if nft_path is None:
        return []

    def nft(*what: str) -> str:
        return run([nft_path, "list", *what]).stdout

    seen_by = {kind for family in families for kind in _SEEN_BY[family]}
    return [
        f"the chain {chain} of table {kind} {table} drops what it does not accept itself, balanced "
        f"connections too: nft insert rule {kind} {table} {chain} ct status dnat accept"
        for kind, table, chain in _dropping_chains(nft("chains"))
        if kind in seen_by and "ct status dnat accept" not in nft("chain", kind, table, chain)
    ]


def _dropping_chains(text: str) -> Iterator[tuple[str, str, str]]:
    kind = table = chain = ""
    for line in (line.strip() for line in text.split("\n")):
        if found := _TABLE_LINE.fullmatch(line):
            kind, table = found.groups()
        elif found := _CHAIN_LINE.fullmatch(line):
            chain = found[1]
        elif _DROPS.fullmatch(line) and (kind, table, chain) not in _IPTABLES_CHAINS:
            yield kind, table, chain
