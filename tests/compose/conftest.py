"""Fixtures of the tests that run the image; what they return is in engine.py.

When a test fails, the logs of its containers are shown.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.compose.engine import (
    Engine,
    compose_command,
    docker,
    missing_engine,
    network_in_the_way,
)
from tests.compose.stack import SAMPLE_NETWORKS, Stack

ROOT = Path(__file__).parents[2]
PROJECT = f"paraglider-test-{os.getpid()}"


@pytest.fixture(scope="session")
def image() -> None:
    """The image, built from the tree as it is."""
    if reason := missing_engine():
        pytest.skip(reason)
    built = subprocess.run([ROOT / "image/build"], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


@pytest.fixture
def engine(image: None) -> Iterator[Engine]:  # noqa: ARG001 - it has to be there
    """The Docker engine; what is started through it is gone after the test."""
    engine = Engine(PROJECT)
    yield engine
    engine.clean_up()


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """For pytest-docker: version 2 of compose or version 1."""
    command = compose_command()
    if command is None:
        pytest.skip("compose is not installed (`make engine` does)")
    return command


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    """For pytest-docker: a name that is not the demo's."""
    return PROJECT


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """For pytest-docker: the demo itself."""
    return str(ROOT / "compose/basic/compose.yaml")


@pytest.fixture(scope="session")
def docker_setup() -> str:
    """For pytest-docker: the appliance, which brings the backends."""
    return "up --detach appliance"


@pytest.fixture(scope="session")
def docker_cleanup() -> str:
    """For pytest-docker: with the containers of single runs."""
    return "down --volumes --remove-orphans --timeout 5"


@pytest.fixture(scope="session")
def basic(request: pytest.FixtureRequest, image: None) -> Iterator[Stack]:  # noqa: ARG001
    """compose/basic, up and healthy."""
    if name := network_in_the_way(SAMPLE_NETWORKS):
        pytest.fail(f"the Docker network {name} has addresses of the sample file; take it down")
    engine = Engine(PROJECT)
    try:
        services = request.getfixturevalue("docker_services")
        yield Stack(engine, PROJECT, services._docker_compose)
    finally:
        engine.clean_up()
        # pytest-docker leaves behind what was up when another part failed to come up.
        leftovers = engine.containers(f"label=com.docker.compose.project={PROJECT}")
        for container in leftovers:
            docker("stop", "--time", "1", container.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001 - the hook has it
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of all containers beside a failure."""
    report = yield
    if report.failed:
        engine = Engine(PROJECT)
        labels = (engine.label, f"com.docker.compose.project={PROJECT}")
        for container in [c for label in labels for c in engine.containers(f"label={label}")]:
            name = container.inspect(".Name")
            report.sections.append((f"docker logs {name}", container.logs()))
    return report
