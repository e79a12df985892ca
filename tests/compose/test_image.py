"""The image: small, labelled, nothing in it but what runs, and every command as an argument."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zlib
from pathlib import Path

import pytest

from paraglider import __version__
from tests.compose.engine import HARDENED, IMAGE, Container, Engine
from tests.compose.stack import DEMOS

MAX_BYTES = 60_000_000
MAX_COMPRESSED_BYTES = 25_000_000
SAMPLE = DEMOS / "basic/glider.yaml"
BUILD_STAGE = f"{IMAGE}-build"  # as image/build names it
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
LIST_AUTHORITIES = """
import hashlib, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_default_certs()
for certificate in context.get_ca_certs(binary_form=True):
    print(hashlib.sha256(certificate).hexdigest())
"""

pytestmark = pytest.mark.usefixtures("image")


def test_it_is_small() -> None:
    """It takes at most 60 MB, of an SD card, say."""
    assert Container(IMAGE).inspect(".Size") <= MAX_BYTES


def test_it_is_small_on_the_way() -> None:
    """At most 25 MB cross the network."""
    packer = zlib.compressobj(6)
    size = 0
    command = ("docker", "save", IMAGE)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as saved:
        assert saved.stdout
        while chunk := saved.stdout.read(1 << 20):
            size += len(packer.compress(chunk))
    assert size + len(packer.flush()) <= MAX_COMPRESSED_BYTES


def test_it_says_what_it_is() -> None:
    """Its labels are those of the OCI, and its version the program's."""
    labels = Container(IMAGE).inspect(".Config.Labels")
    reason = {key.rsplit("image.")[-1]: value for key, value in labels.items()}
    assert reason["title"] == "Paraglider"
    assert reason["version"] == __version__
    assert reason["licenses"] == "Apache-2.0"
    assert {"description", "revision", "base.name"} <= reason.keys()


def test_it_tells_the_engine_how_to_stop_and_watch_it() -> None:
    """SIGTERM ends it; a check is started soon, and may wait."""
    config = Container(IMAGE).inspect(".Config")
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]
    assert config["Healthcheck"]["Interval"] == 1_000_000_000
    assert config["Healthcheck"]["Timeout"] > 35_000_000_000


def test_nothing_of_the_build_is_in_it(engine: Engine) -> None:
    """No certificate but Debian's authorities, no package manager, no tests."""
    command = (
        "find / -xdev -name '*.crt' -o -name pip -o -name 'apt*' -o -name tests -o -name '*.a'"
    )
    ended = engine.run("--entrypoint=sh", IMAGE, "-c", command)
    assert (ended.code, ended.out) == (0, f"{AUTHORITIES}\n")


def test_it_trusts_debians_authorities_and_no_other(engine: Engine) -> None:
    """Python finds them by itself, so that an https check needs no `ca`; what a build behind a
    private authority was given is not among them."""
    ended = engine.run(*HARDENED, "--entrypoint=python3", IMAGE, "-c", LIST_AUTHORITIES)
    assert ended.code == 0, ended.err
    trusted = ended.out.splitlines()
    package = ("--entrypoint=sh", BUILD_STAGE, "-c", "cat /usr/share/ca-certificates/*/*.crt")
    shipped = engine.run(*package).out.split("-----END CERTIFICATE-----\n")
    assert len(trusted) > 100
    assert set(trusted) <= {digest(one) for one in shipped if one}


def digest(certificate: str) -> str:
    """Return the SHA-256 of a certificate without the armour around it; PEM, but for its end."""
    body = certificate.removeprefix("-----BEGIN CERTIFICATE-----")
    return hashlib.sha256(base64.b64decode(body)).hexdigest()


def test_scanners_find_its_packages(engine: Engine) -> None:
    """Each Debian package is recorded with its version, as images without dpkg do."""
    command = "grep -h ^Package: /var/lib/dpkg/status.d/*; cat /etc/os-release"
    ended = engine.run("--entrypoint=sh", IMAGE, "-c", command)
    packages = {f"Package: {name}" for name in ("iptables", "util-linux", "libssl3t64")}
    assert {*packages, "ID=debian"} <= set(ended.out.splitlines())


def test_the_agents_user_has_a_name(engine: Engine) -> None:
    """Whoever looks at its files or processes reads who that is; root's group is no accident."""
    ended = engine.run("--entrypoint=id", IMAGE, "paraglider")
    assert ended.out.split() == ["uid=65532(paraglider)", "gid=0(root)", "groups=0(root)"]


def test_help_needs_nothing(engine: Engine) -> None:
    """`docker run IMAGE --help` explains the program."""
    ended = engine.run(*HARDENED, "--network=none", IMAGE, "--help")
    assert ended.code == 0
    assert ended.out.startswith("usage: paraglider")


@pytest.mark.parametrize("command", ["check", "render"])
def test_a_file_on_standard_input_is_judged(engine: Engine, command: str) -> None:
    """A person tries a file without mounting or being allowed anything."""
    arguments = ("--network=none", "--cap-drop=ALL", IMAGE, "-config", "-", command)
    ended = engine.run(*arguments, stdin=SAMPLE.read_text())
    assert ended.code == 0, ended.err
    assert "configuration OK" in ended.out or "--to-destination 172.19.0.2:5555" in ended.out


def test_without_a_file_it_says_that_none_is_mounted(engine: Engine) -> None:
    """Started as it is, it ends as a bad configuration does, with what to type."""
    ended = engine.run(*HARDENED, "--network=none", IMAGE)
    assert ended.code == 78
    reason = (
        "/etc/paraglider/glider.yaml: does not exist: no file is mounted; mount its folder (-v "
    )
    assert reason in ended.err


def test_a_folder_that_docker_made_for_a_missing_file_is_named(
    engine: Engine, tmp_path: Path
) -> None:
    """`-v` of a file that is not on the host."""
    missing = f"--volume={tmp_path}/missing.yaml:/etc/paraglider/glider.yaml:ro"
    ended = engine.run(*HARDENED, "--network=none", missing, IMAGE)
    assert ended.code == 78
    assert "Docker makes a directory where the file" in ended.err


def test_every_module_is_compiled(engine: Engine) -> None:
    """A read-only root is no reason to be slow."""
    program = """
import importlib.util, os, sys
import supervisor.supervisord, yaml, paraglider.cli.main
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
sources = [file for file in files if file.endswith(".py")]
compiled = [os.path.exists(importlib.util.cache_from_source(source)) for source in sources]
print(len(sources) > 50, all(compiled))
"""
    ended = engine.run(*HARDENED, "--entrypoint=python3", IMAGE, "-c", program)
    assert ended.out == "True True\n", ended.err
