"""A demo as the tests use it: built as its README says, up from a copy of its folder, then gone.

    with open_demo("redis", compose="docker compose", scratch=tmp_path) as demo:
        with demo.without("10.77.6.11"):
            demo.stack.run("client")

Nothing here writes to the repository: what a test changes is the copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.compose.engine import Engine
from tests.compose.rules import read_rules, require_idle_host
from tests.compose.runs import PROJECT
from tests.compose.stack import DEMOS, ROOT, Stack, open_stack

_LOADED = "rules are in iptables"
_OF_A_NETWORK = re.compile(r" br-[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that is up, and the folder that it was started from."""

    folder: Path
    stack: Stack

    @contextmanager
    def without(self, backend: str) -> Iterator[None]:
        """Take a backend out of glider.yaml and load it; at the end, put it back."""
        whole = (self.folder / "glider.yaml").read_text()
        kept = [line for line in whole.splitlines(keepends=True) if backend not in line]
        self._load("".join(kept))
        try:
            yield
        finally:
            self._load(whole)

    def _load(self, text: str) -> None:
        appliance = self.stack.appliance
        times = appliance.logs().count(_LOADED) + 1
        (self.folder / "glider.yaml").write_text(text)
        self.stack.do("kill -s HUP appliance")
        appliance.wait_until_it_says(_LOADED, times=times)


@contextmanager
def open_demo(name: str, *, compose: str, scratch: Path) -> Iterator[Demo]:
    """Copy a demo to a folder of the test's own, build what it builds, and bring it up, until its
    client has been served once. One on the host's network leaves the host's rules as they were."""
    folder = scratch / name
    shutil.copytree(DEMOS / name, folder)
    if (folder / "Dockerfile").exists():
        build(folder, compose=compose)
    on_host = "network_mode: host" in (folder / "compose.yaml").read_text()
    with (
        rules_of_the_host_kept() if on_host else nullcontext(),
        open_stack(folder, compose=compose) as stack,
    ):
        stack.run("client")  # which waits for the others
        yield Demo(folder, stack)


def build(folder: Path, *, compose: str) -> None:
    """Build the image of a demo on the base that there is; both versions share what is built."""
    base = subprocess.run([ROOT / "image/base"], check=True, capture_output=True, text=True)
    built = subprocess.run(
        [*compose.split(), "--file", "compose.yaml", "build"],
        cwd=folder,
        env={**os.environ, "BASE": base.stdout.strip(), "DOCKER_BUILDKIT": "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr


def rules_of_the_host(engine: Engine) -> str:
    """Return the host's rules without those that Docker has for a network, such as

        -A DOCKER-ISOLATION-STAGE-1 ! -s 10.77.1.0/24 -o br-210d4b10ec10 -j DROP

    which come and go with the networks of everybody else, too.
    """
    lines = read_rules(engine, "--network=host").splitlines()
    return "\n".join(line for line in lines if not _OF_A_NETWORK.search(line))


@contextmanager
def rules_of_the_host_kept() -> Iterator[None]:
    """Fail where the host's rules are not in the end what they were."""
    engine = Engine(PROJECT)
    require_idle_host(engine)
    before = rules_of_the_host(engine)
    yield
    assert rules_of_the_host(engine) == before


def rows(printed: str) -> list[list[str]]:
    """Return the words of each line that a demo's client prints, but for empty lines."""
    return [line.split() for line in printed.splitlines() if line.strip()]


def table_of_thirds(peer: str) -> list[list[str]]:
    """Return the rows of the lab's table where each of three backends answers 100 of 300."""
    return [
        ["backend", "connections", "share", "peer", "address", "seen"],
        *([name, "100", "33.3", "%", peer] for name in ("blue", "green", "red")),
        ["all", "300", "100.0", "%", peer],
    ]
