"""Fixtures of the tests that need a real kernel; what they return is in harness.py.

`topology` is one of each family and variant: four runs of every test that takes it. A test that is
about one of them says so: ``@pytest.mark.parametrize("variant", [Variant.NFT], indirect=True)``.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import paraglider
from paraglider.lab.hosts import Lab
from tests.netns.harness import (
    IPV4,
    IPV6,
    AddressPlan,
    Balancer,
    Topology,
    Variant,
    build_topology,
    missing_for_lab,
    missing_for_variant,
)


@pytest.fixture(scope="session")
def lab_reason() -> str | None:
    """Why there can be no lab on this machine, or None."""
    return missing_for_lab()


@pytest.fixture(scope="session")
def variant_reasons(lab_reason: str | None) -> dict[Variant, str | None]:
    """Why each variant of iptables cannot be used, or None."""
    return {variant: lab_reason or missing_for_variant(variant) for variant in Variant}


@pytest.fixture
def lab(lab_reason: str | None) -> Iterator[Lab]:
    """An empty lab."""
    if lab_reason is not None:
        pytest.skip(lab_reason)
    with Lab() as lab:
        yield lab


@pytest.fixture(params=list(Variant), ids=lambda variant: variant.value)
def variant(request: pytest.FixtureRequest, variant_reasons: dict[Variant, str | None]) -> Variant:
    """Each variant of iptables in turn."""
    chosen: Variant = request.param
    reason = variant_reasons[chosen]
    if reason is not None:
        pytest.skip(reason)
    return chosen


@pytest.fixture(params=[IPV4, IPV6], ids=lambda plan: f"ipv{plan.version}")
def addresses(request: pytest.FixtureRequest) -> AddressPlan:
    """The addresses of each family in turn."""
    plan: AddressPlan = request.param
    return plan


@pytest.fixture
def topology(lab: Lab, addresses: AddressPlan, variant: Variant) -> Topology:
    """A client, a balancer and three backends that serve; no rules yet."""
    return build_topology(lab, addresses=addresses, variant=variant)


@pytest.fixture(scope="session")
def package() -> Iterator[Path]:
    """A folder with the program that every user may read: the checkout may be its owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(Path(paraglider.__file__).parent, folder / "paraglider")
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def balancer(topology: Topology) -> Balancer:
    """The balancer of `topology`."""
    return topology.balancer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for servers, with its key; the authority is in ca.pem beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing; on Debian and Ubuntu: apt install openssl")
    directory = tmp_path_factory.mktemp("authority")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    addresses = ("10.9.0.2", "fd09::2", *IPV4.backends, *IPV6.backends)
    names = ",".join(["subjectAltName=DNS:shop.test", *(f"IP:{it}" for it in addresses)])
    for line in (
        f"{make} -subj /CN=ca -keyout ca.key -out ca.pem",
        f"{make} -subj /CN=b -keyout b.key -out b.crt -CA ca.pem -CAkey ca.key -addext {names}"
        " -addext basicConstraints=critical,CA:FALSE",
    ):
        subprocess.run(line.split(), cwd=directory, check=True, capture_output=True)
    both = directory / "b.pem"
    both.write_text((directory / "b.crt").read_text() + (directory / "b.key").read_text())
    return both
