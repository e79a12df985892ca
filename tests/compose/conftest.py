"""Fixtures of the tests that run the image; what they return is in engine.py, runs.py and stack.py.

When a test fails, the logs of its containers are shown. When all are over, no container, network or
rule of theirs is left: that is a test too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterator

import pytest

from tests.compose.demos import Demo, open_demo
from tests.compose.engine import (
    Container,
    Engine,
    Witness,
    compose_commands,
    docker,
    give_up,
    missing_engine,
)
from tests.compose.rules import read_rules
from tests.compose.runs import PROJECT, clear_what_others_left, containers_of_run
from tests.compose.stack import DEMOS, ROOT, Stack, open_stack


@pytest.fixture(scope="session")
def image() -> None:
    """The image, built from the tree as it is."""
    if reason := missing_engine():
        give_up(reason)
    built = subprocess.run([ROOT / "image/build"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail where the tests of this folder leave something of theirs; a run that was killed did."""
    if missing_engine() is not None:
        yield
        return
    clear_what_others_left()
    before = traces()
    yield
    assert traces() == before


def traces() -> list[str]:
    """Return the containers, networks and volumes of the tests, and the rules on the host."""
    ours = [
        line
        for kind in ("container ls --all", "network ls", "volume ls")
        for line in docker(*kind.split(), "--format", f"{kind}: {{{{.}}}}").splitlines()
        if PROJECT in line
    ]
    rules = read_rules(Engine(PROJECT), "--network=host").splitlines()
    return ours + [line for line in rules if "PARAGLIDER" in line]


@pytest.fixture
def engine(image: None) -> Iterator[Engine]:  # noqa: ARG001 - it has to be there
    """The Docker engine; what is started through it is gone after the test."""
    engine = Engine(PROJECT)
    yield engine
    engine.clean_up()


@pytest.fixture(scope="session", params=["1", "2"], ids=lambda version: f"compose {version}")
def compose(request: pytest.FixtureRequest, image: None) -> str:  # noqa: ARG001
    """The command of each version of compose in turn."""
    commands = compose_commands()
    if request.param not in commands:
        reason = f"version {request.param} of compose is not to be had here (`make engine`)"
        if request.param == "1":  # it is not in every release of Debian; `make engine` fetches 2
            pytest.skip(reason)
        give_up(reason)
    return commands[request.param]


@pytest.fixture(scope="session")
def any_compose(image: None) -> str:  # noqa: ARG001
    """The command of one version of compose, where it does not matter which."""
    commands = list(compose_commands().values())
    if not commands:
        give_up("compose is not installed (`make engine` does)")
    return commands[-1]


@pytest.fixture(scope="module")
def basic(any_compose: str) -> Iterator[Stack]:
    """compose/basic, balancing."""
    with open_stack(DEMOS / "basic", compose=any_compose) as stack:
        for backend in ("red", "green", "blue"):
            stack.container(backend).wait_until_it_says("ready")
        stack.appliance.wait_until_it_says("rules are in iptables")
        yield stack


@pytest.fixture(scope="module")
def demo(
    request: pytest.FixtureRequest, compose: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Demo]:
    """The demo that a module names as DEMO, balancing."""
    scratch = tmp_path_factory.mktemp("demo")
    with open_demo(request.module.DEMO, compose=compose, scratch=scratch) as demo:
        yield demo


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of all containers beside a failure, and what its fixtures have to show."""
    report = yield
    if report.failed:
        for container in containers_of_run(PROJECT):
            if container.inspect(".HostConfig.LogConfig.Type") != "none":
                report.sections.append((f"docker logs {named(container)}", container.logs()))
        for fixture in getattr(item, "funcargs", {}).values():
            if isinstance(fixture, Witness):
                report.sections.extend(fixture.evidence())
    return report


def named(container: Container) -> str:
    """Return the name that compose or Docker gave to a container."""
    return str(container.inspect(".Name"))
