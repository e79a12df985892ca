"""One device for each variant of iptables, and Paraglider on it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compose.device.device import DEVICE_IMAGE, LAN, LANES, Device, Host, Lane
from tests.compose.engine import Container, Engine, docker, give_up, run
from tests.compose.rules import skip_without_legacy
from tests.compose.runs import PROJECT
from tests.compose.stack import ROOT
from tests.waiting import until


@pytest.fixture(scope="session")
def device_image(image: None) -> None:  # noqa: ARG001 - it goes into the device
    """What a device is made of; built anew where the Dockerfile, boot.sh or the base differ."""
    base = run(str(ROOT / "image/base")).out.strip()
    options = ("--force-rm", "--build-arg", f"BASE={base}", "--tag", DEVICE_IMAGE)
    command = ["docker", "build", *options, str(Path(__file__).parent)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        give_up(f"no device: its image cannot be built: {built.stdout}{built.stderr}")
    docker("image", "prune", "--force", "--filter", "label=paraglider.stage=device")


@pytest.fixture(scope="session", params=["nft", "legacy"])
def device(request: pytest.FixtureRequest, device_image: None) -> Iterator[Device]:  # noqa: ARG001
    """A device whose Docker uses each variant of iptables in turn."""
    outer = Engine(f"{PROJECT}-device")
    if request.param == "legacy":
        skip_without_legacy(outer)
    lan = outer.network("lan", LAN)
    try:
        device = Device(outer, lan=lan, variant=request.param)
        until(device.is_answering, what="its dockerd answers", within_s=60)
    except AssertionError as error:
        said = [line for one in outer.containers() for line in one.logs().splitlines()]
        outer.clean_up()
        give_up("\n".join([f"no device: {error}", *said[-3:]]))
    try:
        device.furnish()
        yield device
    finally:
        device.take_down()


@contextmanager
def engine_inside(device: Device) -> Iterator[Engine]:
    """The engine of the device; what is started through it is gone at the end."""
    engine = device.visitors()
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
