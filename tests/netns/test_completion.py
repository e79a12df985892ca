"""Completion beside a running agent: bash offers what that agent balances."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.netns.harness import IPV4, Topology, Variant

pytestmark = [
    pytest.mark.parametrize("addresses", [IPV4], ids=["ipv4"], indirect=True),
    pytest.mark.parametrize("variant", [Variant.NFT], ids=["nft"], indirect=True),
]


def _offered(topology: Topology, program: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of `words`, without a word on standard error."""
    script = topology.balancer.paraglider("completion", "bash").stdout
    listed = " ".join(f"'{word}'" for word in (str(program), *words))
    script += f"COMP_WORDS=({listed}) COMP_CWORD={len(words)}\n_paraglider\n"
    done = topology.balancer.run("bash", input=script + "printf '%s\\n' \"${COMPREPLY[@]}\"")
    assert done.stderr == ""
    return done.stdout.split()


def test_names_come_from_the_agent(topology: Topology, program: Path) -> None:
    """Without -config; without an agent they come from the file that is named."""
    agent = topology.start_agent()
    backends = list(topology.addresses.backend_endpoints)
    for command in ("drain", "undrain", "disable", "enable"):
        assert _offered(topology, program, command, "1") == backends
    assert _offered(topology, program, "drain", "--frontend", "") == ["default"]
    agent.kill()
    assert _offered(topology, program, "drain", "1") == []
    assert _offered(topology, program, "-config", str(agent.path), "drain", "1") == backends


def test_an_agent_that_hangs_holds_up_no_key(topology: Topology, program: Path) -> None:
    """The file that is named is read instead."""
    agent = topology.start_agent()
    agent.running.send_signal(signal.SIGSTOP)
    backends = list(topology.addresses.backend_endpoints)
    assert _offered(topology, program, "-config", str(agent.path), "drain", "1") == backends
    agent.running.send_signal(signal.SIGCONT)
