"""One device for each variant of iptables, and Paraglider on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.compose.device.device import DEVICE_IMAGE, LAN, LANES, Device, Host, Lane
from tests.compose.engine import Container, Engine, docker, run, until
from tests.compose.stack import PROJECT, ROOT


@pytest.fixture(scope="session")
def device_image(image: None) -> None:  # noqa: ARG001 - it goes into the device
    """What a device is made of; built anew where the Dockerfile, boot.sh or the base differ."""
    base = run(str(ROOT / "image/base")).out.strip()
    options = ("--force-rm", "--build-arg", f"BASE={base}", "--tag", DEVICE_IMAGE)
    command = ["docker", "build", *options, str(Path(__file__).parent)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        give_up(f"its image cannot be built: {built.stdout}{built.stderr}")
    docker("image", "prune", "--force", "--filter", "label=paraglider.stage=device")


def give_up(reason: str) -> NoReturn:
    """Skip; in CI, where everything can be had, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"no device: {reason}")
    pytest.skip(f"no device: {reason}")


@pytest.fixture(scope="session", params=["nft", "legacy"])
def device(request: pytest.FixtureRequest, device_image: None) -> Iterator[Device]:  # noqa: ARG001
    """A device whose Docker uses each variant of iptables in turn."""
    outer = Engine(f"{PROJECT}-device")
    probe = ("--cap-add=NET_ADMIN", "--network=none", "--entrypoint=iptables-legacy")
    if request.param == "legacy" and outer.run(*probe, DEVICE_IMAGE, "-t", "nat", "-S").code != 0:
        pytest.skip("the kernel has no legacy iptables")
    lan = outer.network("lan", LAN)
    try:
        device = Device(outer, lan=lan, variant=request.param)
        until(device.is_answering, what="its dockerd answers", within_s=60)
    except AssertionError as error:
        said = [line for one in outer.containers() for line in one.logs().splitlines()]
        outer.clean_up()
        give_up("\n".join([str(error), *said[-3:]]))
    try:
        device.furnish()
        yield device
    finally:
        device.take_down()


def visitors(device: Device) -> Engine:
    """The engine of the device, for what is not its furniture."""
    return Engine(f"{PROJECT}-visit", command=device.command)


@contextmanager
def engine_inside(device: Device) -> Iterator[Engine]:
    """The engine of the device; what is started through it is gone at the end."""
    engine = visitors(device)
    try:
        yield engine
    finally:
        for container in engine.containers():
            container.stop()  # an appliance takes its rules away
        engine.clean_up()


@pytest.fixture
def inside(device: Device) -> Iterator[Engine]:
    """The engine of the device, for one test."""
    with engine_inside(device) as engine:
        yield engine


@pytest.fixture
def appliance(device: Device, inside: Engine) -> Container:
    """Paraglider on the device's host network, balancing both families, for one test."""
    return device.start_appliance(inside)


@pytest.fixture(scope="module")
def balanced(device: Device) -> Iterator[Container]:
    """The same for tests that leave it as it is."""
    with engine_inside(device) as engine:
        yield device.start_appliance(engine)


@pytest.fixture(params=LANES, ids=lambda lane: f"ipv{lane.version}")
def lane(request: pytest.FixtureRequest) -> Lane:
    """The addresses of each family in turn."""
    found: Lane = request.param
    return found


@pytest.fixture
def setting(device: Device) -> Iterator[Callable[[str, str], None]]:
    """Changes a setting of the device's kernel, by name and value, until the end of the test."""
    before = {}

    def change(name: str, value: str) -> None:
        before[name] = device.execute("sysctl", "--values", name).strip()
        device.execute("sysctl", "--write", f"{name}={value}")

    yield change
    for name, value in before.items():
        device.execute("sysctl", "--write", f"{name}={value}")


@pytest.fixture
def client(device: Device) -> Host:
    """A client on one of the device's bridges; the backends are on another."""
    return device.hosts["client"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show beside a failure what the containers inside have said, too."""
    report = yield
    device = getattr(item, "funcargs", {}).get("device")
    if report.failed and device:
        for container in visitors(device).containers():
            report.sections.append((f"inside: docker logs {container.name}", container.logs()))
    return report
