"""start, stop, diff and run, among rules that are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraglider.kernel.iptables import Variant
from tests.golden.case_files import GoldenCase, golden_cases
from tests.netns.harness import FOREIGN, IPV4, PARAGLIDER, Balancer, Topology

_ONLY_IPV4 = pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True)
_ONLY_NFT = pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True)


def test_stop_leaves_the_rules_as_they_were(topology: Topology) -> None:
    """Among others' rules in every table, iptables-save says the same before and after."""
    balancer = topology.balancer
    balancer.restore(FOREIGN)
    before = balancer.save()
    assert balancer.paraglider("start", config=topology.config).returncode == 0
    assert balancer.save() != before
    assert balancer.paraglider("stop").stdout == "stopped: removed all rules\n"
    assert balancer.save() == before


@_ONLY_NFT
def test_stop_takes_away_the_tables_that_start_brought(topology: Topology) -> None:
    """On a host without any rule there is none, and no table, afterwards."""
    before = topology.balancer.run("nft", "list", "ruleset").stdout
    topology.balancer.paraglider("start", config=topology.config)
    topology.balancer.paraglider("stop")
    assert topology.balancer.run("nft", "list", "ruleset").stdout == before == ""


@_ONLY_NFT
def test_stop_leaves_a_table_that_others_have_come_to_use(topology: Topology) -> None:
    """A table that start brought stays where somebody's rule is in it by now."""
    topology.balancer.paraglider("start", config=topology.config)
    topology.balancer.iptables("-t", "mangle", "-A", "FORWARD", "-j", "RETURN")
    topology.balancer.paraglider("stop")
    assert "-A FORWARD -j RETURN" in topology.balancer.save()
    assert "*nat" not in topology.balancer.save()


def test_start_twice_writes_once(topology: Topology, tmp_path: Path) -> None:
    """The second finds the rules as wanted, says so, and does not call iptables-restore at all."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    again = balancer.run(
        *balancer.without_restore(tmp_path), "-config", "-", "start", input=topology.config
    )
    assert again.stdout.startswith("already running as configured; nothing to change\n")


def test_a_changed_file_replaces_what_was(topology: Topology) -> None:
    """diff shows it first, start does it, and connections go to what is left."""
    balancer, addresses = topology.balancer, topology.addresses
    balancer.paraglider("start", config=topology.config)
    fewer = addresses.make_config(addresses.backend_endpoints[1:])
    shown = balancer.paraglider("diff", config=fewer)
    assert shown.returncode == 1
    assert f"--to-destination {addresses.backend_endpoints[0]}" in shown.stdout
    assert balancer.paraglider("start", config=fewer).returncode == 0
    assert balancer.paraglider("diff", config=fewer).stdout == ""
    assert topology.connect(10).by_backend == {"b2": 5, "b3": 5}


def test_a_reload_touches_no_connection(topology: Topology) -> None:
    """Of 300 that talk, none breaks in 20 changes of the file, one's own backend leaving included;
    none of the new ones meanwhile is refused."""
    balancer, addresses = topology.balancer, topology.addresses
    balancer.paraglider("start", config=topology.config)
    with topology.hold(300) as held:
        for turn in range(20):
            ends = addresses.backend_endpoints if turn % 2 else addresses.backend_endpoints[1:]
            balancer.paraglider("start", config=addresses.make_config(ends))
            assert topology.connect(6).failures == ()
        assert held.settle().broken == 0


@pytest.mark.parametrize(
    "damage",
    [
        "-t nat -F",
        "-t nat -D PREROUTING 1",
        "-t nat -F PARAGLIDER-default",
        "-t nat -A PREROUTING -j PARAGLIDER-DNAT",
        "-t nat -I PREROUTING -j RETURN",
        "-F",
        "-t mangle -F",
        "-I PARAGLIDER-FORWARD -j DROP",
    ],
)
@_ONLY_IPV4
def test_start_mends_whatever_was_done_to_our_rules(topology: Topology, damage: str) -> None:
    """status and diff tell of it by their exit code; afterwards both are content again."""
    balancer = topology.balancer
    balancer.paraglider("start", config=topology.config)
    balancer.iptables(*damage.split())
    assert balancer.paraglider("status").returncode == 1
    assert balancer.paraglider("diff", config=topology.config).returncode == 1
    assert balancer.paraglider("start", config=topology.config).returncode == 0
    assert balancer.paraglider("status").returncode == 0
    assert balancer.paraglider("diff", config=topology.config).returncode == 0
    assert topology.connect(3).by_backend == {"b1": 1, "b2": 1, "b3": 1}


def test_stop_works_from_any_state_and_without_a_file(topology: Topology) -> None:
    """Chains of an older version, jumps to them from chains of others, in both families: gone."""
    balancer = topology.balancer
    balancer.restore(FOREIGN)
    before = balancer.save()
    balancer.restore(
        "*nat\n:PARAGLIDER-OLD - [0:0]\n:PARAGLIDER-old.1 - [0:0]\n"
        "-A PARAGLIDER-OLD -m mark --mark 0x1 -j PARAGLIDER-old.1\n"
        "-A DOCKER -p udp -j PARAGLIDER-OLD\n-A OUTPUT -j PARAGLIDER-OLD\nCOMMIT\n"
    )
    assert balancer.paraglider("stop").returncode == 0
    assert balancer.save() == before
    assert balancer.paraglider("stop").stdout == "nothing was running\n"


@_ONLY_NFT
def test_stop_leaves_what_others_put_beside_iptables(topology: Topology) -> None:
    """Into the tables that start brought: a set, a chain of nftables, a rule that only counts.
    iptables-save shows none of the first two."""
    balancer = topology.balancer
    family = "ip" if topology.addresses.version == 4 else "ip6"
    balancer.paraglider("start", config=topology.config)
    balancer.run("nft", "add", "set", family, "filter", "blocked", "{ type mark; }")
    balancer.run("nft", "add", "chain", family, "nat", "own")
    balancer.iptables("-t", "mangle", "-A", "POSTROUTING")
    assert balancer.paraglider("stop").returncode == 0
    left = balancer.run("nft", "list", "ruleset").stdout
    assert "set blocked" in left
    assert "chain own" in left
    assert "chain POSTROUTING" in left
    assert "PARAGLIDER" not in left
    assert "table ip paraglider" not in left


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(
            '*nat\n:PARAGLIDER-a"b - [0:0]\n-A OUTPUT -j "PARAGLIDER-a\\"b"\nCOMMIT\n',
            id="a name with a quote",
        ),
        pytest.param(
            "*nat\n:PARAGLIDER-x - [0:0]\n"
            "-A OUTPUT -m recent --name pg --rcheck -j PARAGLIDER-x\nCOMMIT\n",
            id="a match that is not found again",
        ),
        pytest.param(
            "*raw\n:PARAGLIDER-RAW - [0:0]\n-A OUTPUT -j PARAGLIDER-RAW\nCOMMIT\n",
            id="another table",
        ),
        pytest.param(
            "*filter\n:PARAGLIDER- - [0:0]\n-A INPUT -g PARAGLIDER-\nCOMMIT\n",
            id="no name",
        ),
    ],
)
@_ONLY_IPV4
def test_stop_takes_away_what_was_named_oddly(topology: Topology, left: str) -> None:
    """Whatever bears our prefix, and the jumps to it."""
    balancer = topology.balancer
    balancer.restore(FOREIGN + "*raw\n-A PREROUTING -p udp -j ACCEPT\nCOMMIT\n")
    before = balancer.save()
    balancer.restore(left)
    assert balancer.paraglider("stop").stdout == "stopped: removed all rules\n"
    assert balancer.save() == before


@_ONLY_IPV4
def test_five_starts_at_once_make_one(topology: Topology) -> None:
    """Each ends well, and there is one jump of each kind."""
    balancer = topology.balancer
    script = """
        for n in 1 2 3 4 5; do "$@" & started="$started $!"; done
        for one in $started; do wait $one || exit; done
    """
    path = "/run/glider.yaml"
    balancer.run("tee", path, input=topology.config)
    command = [*PARAGLIDER, "-config", path, "start"]
    balancer.run("sh", "-c", script, "sh", *command)
    assert balancer.paraglider("status").returncode == 0
    assert balancer.save().count("-A PREROUTING -j PARAGLIDER-DNAT\n") == 1


@_ONLY_IPV4
def test_rules_move_with_the_variant(topology: Topology) -> None:
    """Started in the other variant they are in that one alone; stop looks in both."""
    balancer = topology.balancer
    other = next(v for v in Variant if v is not topology.balancer.variant)
    moved = Balancer(topology.lab, other, topology.addresses.version)
    balancer.paraglider("start", config=topology.config)
    assert moved.paraglider("start", config=topology.config).returncode == 0
    assert "PARAGLIDER" in moved.save()
    assert "PARAGLIDER" not in balancer.save()
    assert topology.connect(30).by_backend == {"b1": 10, "b2": 10, "b3": 10}
    balancer.paraglider("stop")
    assert "PARAGLIDER" not in moved.save()


@_ONLY_IPV4
@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_the_kernel_holds_what_was_rendered(topology: Topology, case: GoldenCase) -> None:
    """Each golden file passes --test and loads; what iptables-save prints of our chains is, byte
    for byte, what was rendered."""
    variant = topology.balancer.variant.value
    for part in case.rendered().split("# ")[1:]:
        header, _, text = part.partition("\n")
        if header == "ipset restore":
            topology.balancer.run("ipset", "restore", input=text)
            continue
        tool = header.removesuffix(" --noflush").replace("tables", f"tables-{variant}")
        topology.balancer.run(tool, "--noflush", "--test", input=text)
        topology.balancer.run(tool, "--noflush", input=text)
        saved = topology.balancer.run(tool.replace("restore", "save")).stdout.splitlines()
        rendered = text.splitlines()
        for kind in (":PARAGLIDER-", "-A PARAGLIDER-"):
            assert [line for line in rendered if line.startswith(kind)] == _by_table(saved, kind)


@_ONLY_IPV4
def test_a_wrong_golden_file_would_not_load(topology: Topology) -> None:
    """The test above can fail: one option that no match has is refused."""
    seed = next(case for case in golden_cases() if case.name == "seed")
    wrong = seed.rendered().replace("--every", "--evry", 1)
    tool = f"iptables-{topology.balancer.variant.value}-restore"
    done = topology.balancer.run(tool, "--noflush", "--test", input=wrong, check=False)
    assert done.returncode != 0


def _by_table(saved: list[str], kind: str) -> list[str]:
    """The lines of a kind, the tables in the order that we write them in."""
    tables: dict[str, list[str]] = {}
    for line in saved:
        if line.startswith("*"):
            tables[line] = lines = []
        elif line.startswith(kind):
            lines.append(line)
    return [line for name in ("*filter", "*mangle", "*nat") for line in tables[name]]
