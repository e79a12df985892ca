"""Variant: the host's own rules decide between nft and legacy."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraglider.errors import ConfigError
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Variant
from paraglider.kernel.variant import Choice, Evidence, choose_variant, judge_evidence

_NONE = Evidence(has_docker=False, has_ours=False, rule_count=0)
_RULES = Evidence(has_docker=False, has_ours=False, rule_count=7)
_OURS = Evidence(has_docker=False, has_ours=True, rule_count=7)
_DOCKER = Evidence(has_docker=True, has_ours=False, rule_count=7)


@pytest.mark.parametrize(
    ("nft", "legacy", "expected"),
    [
        (_DOCKER, _RULES, Choice(Variant.NFT, "Docker's chains are in it")),
        (_RULES, _DOCKER, Choice(Variant.LEGACY, "Docker's chains are in it")),
        (_OURS, _DOCKER, Choice(Variant.LEGACY, "Docker's chains are in it")),
        (_RULES, _OURS, Choice(Variant.LEGACY, "Paraglider's rules are in it")),
        (_NONE, _RULES, Choice(Variant.LEGACY, "the host's rules are in it")),
        (_RULES, _NONE, Choice(Variant.NFT, "the host's rules are in it")),
        (
            _RULES,
            _RULES,
            Choice(
                Variant.NFT, "both variants hold rules; PARAGLIDER_IPTABLES=legacy overrides this"
            ),
        ),
        (_NONE, _NONE, None),
    ],
)
def test_the_rules_on_a_host_decide(
    nft: Evidence, legacy: Evidence, expected: Choice | None
) -> None:
    """Docker's first, then ours, then anybody's; without any, the host's own command is asked."""
    assert judge_evidence({Variant.NFT: nft, Variant.LEGACY: legacy}) == expected


def test_status_looks_where_ours_are() -> None:
    """Whoever put them there, and wherever Docker's are."""
    seen = {Variant.NFT: _DOCKER, Variant.LEGACY: _OURS}
    choice = judge_evidence(seen, where_ours_are=True)
    assert choice == Choice(Variant.LEGACY, "Paraglider's rules are in it")


def test_the_user_overrides_it(tmp_path: Path) -> None:
    """PARAGLIDER_IPTABLES is taken as it is, without looking."""
    choice = choose_variant(environment={"PARAGLIDER_IPTABLES": "legacy"}, host=Host(tmp_path))
    assert choice == Choice(Variant.LEGACY, "PARAGLIDER_IPTABLES says so")


def test_another_name_is_a_wrong_setting(tmp_path: Path) -> None:
    """The message has what it may be."""
    with pytest.raises(ConfigError, match="'ebtables' is not a variant of iptables; write nft or"):
        choose_variant(environment={"PARAGLIDER_IPTABLES": "ebtables"}, host=Host(tmp_path))
