"""What keeps established connections alive is back at once, where it was missing."""

from __future__ import annotations

import sys

import pytest

from tests.netns.harness import IPV4, Topology, Variant

pytestmark = [
    pytest.mark.parametrize("addresses", [IPV4], indirect=True, ids=["ipv4"]),
    pytest.mark.parametrize("variant", [Variant.NFT], indirect=True, ids=["nft"]),
]

_REVIVE = """
from paraglider.config.model import Family
from paraglider.kernel.anchor_revival import revive_anchors
print(*(family.value for family in revive_anchors(list(Family))))
"""


def _revive(topology: Topology) -> str:
    return topology.balancer.run(sys.executable, "-c", _REVIVE).stdout.strip()


def test_a_missing_anchor_is_made_in_each_family(topology: Topology) -> None:
    """Two chains of NAT, and a rule that refers to connection tracking."""
    assert _revive(topology) == "4 6"
    for family in ("ip", "ip6"):
        listed = topology.balancer.run("nft", "-a", "list", "table", family, "paraglider").stdout
        assert "type nat hook prerouting" in listed
        assert "type nat hook postrouting" in listed
        assert listed.count("# handle") == 5  # the table, three chains and the rule


def test_one_that_is_there_stays_as_it_is(topology: Topology) -> None:
    """With what it remembers."""
    topology.balancer.paraglider("start", config=topology.config)
    before = topology.balancer.run("nft", "list", "table", "ip", "paraglider").stdout
    assert _revive(topology) == "6"
    assert topology.balancer.run("nft", "list", "table", "ip", "paraglider").stdout == before
