"""Which source a configuration comes from, and sources that cannot be read."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paraglider.config.load import DEFAULT_PATH, load_config
from paraglider.config.model import Config
from paraglider.config.text import MAX_SIZE_BYTES
from paraglider.errors import ConfigError

ENVIRONMENT = {
    "PARAGLIDER_BIND": "10.9.0.1:80",
    "PARAGLIDER_PRIVATEIP": "10.9.0.1",
    "PARAGLIDER_BACKENDS": "10.9.0.2:80",
}


def text_of(bind: str) -> bytes:
    return (
        f"frontend: {{bind: {bind}, privateip: 10.0.0.1, backends: [172.19.0.2:80]}}\n"
    ).encode()


class Unused(io.RawIOBase):
    """Standard input that nobody may touch."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise AssertionError(f"standard input was read into {buffer!r}")


def load(
    path: str | Path | None,
    *,
    environment: dict[str, str] | None = None,
    stdin: io.BytesIO | None = None,
    default_path: Path | None = None,
) -> Config:
    return load_config(
        None if path is None else str(path),
        environment=environment or {},
        stdin=stdin or io.BufferedReader(Unused()),
        default_path=str(default_path or "/nonexistent/glider.yaml"),
    )


def problem_of(
    path: str | Path | None, *, stdin: io.BytesIO | None = None, default_path: Path | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, stdin=stdin, default_path=default_path)
    return str(caught.value)


def source_and_bind(config: Config) -> tuple[str, str]:
    return config.source, str(config.frontends[0].bind)


def test_the_default_path_is_that_of_the_seed() -> None:
    assert DEFAULT_PATH == "/etc/paraglider/glider.yaml"


def test_a_named_file_beats_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "glider.yaml"
    path.write_bytes(text_of("10.0.0.1:80"))
    assert (str(path), "10.0.0.1:80") == source_and_bind(load(path, environment=ENVIRONMENT))


def test_a_dash_is_standard_input_and_beats_the_environment() -> None:
    config = load("-", environment=ENVIRONMENT, stdin=io.BytesIO(text_of("10.0.0.1:80")))
    assert source_and_bind(config) == ("<stdin>", "10.0.0.1:80")


def test_without_a_path_the_environment_stands_in_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "glider.yaml"
    path.write_bytes(text_of("10.0.0.1:80"))
    config = load(None, environment=ENVIRONMENT, default_path=path)
    assert source_and_bind(config) == ("environment", "10.9.0.1:80")


def test_without_path_and_environment_the_default_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "glider.yaml"
    path.write_bytes(text_of("10.0.0.1:80"))
    config = load(None, environment={"PARAGLIDER_BIND": ""}, default_path=path)
    assert (str(path), "10.0.0.1:80") == source_and_bind(config)


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    """Kubernetes and compose mount configurations as links."""
    (tmp_path / "real").write_bytes(text_of("10.0.0.1:80"))
    link = tmp_path / "link"
    link.symlink_to("real")
    assert (str(link), "10.0.0.1:80") == source_and_bind(load(link))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    assert f"{path}: does not exist; check the path" == problem_of(path)


def test_a_missing_default_file_names_every_way_to_configure(tmp_path: Path) -> None:
    path = tmp_path / "no.yaml"
    expected = (
        f"{path}: does not exist; write it, name another file with -config FILE ('-' is standard"
        " input), or set PARAGLIDER_BIND, PARAGLIDER_PRIVATEIP and PARAGLIDER_BACKENDS,"
        " or PARAGLIDER_CONFIG_YAML"
    )
    assert expected == problem_of(None, default_path=path)


def test_a_directory_is_told_with_the_usual_cause(tmp_path: Path) -> None:
    expected = (
        f"{tmp_path}: is a directory; name the file in it. Docker makes a directory where the file"
        " that a volume names does not exist on the host"
    )
    assert expected == problem_of(tmp_path)


def test_a_fifo_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    expected = f"{path}: is not a regular file; to read a pipe, use '-config -'"
    assert expected == problem_of(path)


def test_a_device_is_refused() -> None:
    expected = "/dev/zero: is not a regular file; to read a pipe, use '-config -'"
    assert expected == problem_of("/dev/zero")


def test_a_file_over_the_limit_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10 * MAX_SIZE_BYTES)  # sparse
    beginning = f"{path}: is larger than 4194304 bytes (it has 41943040 or more)"
    assert beginning == problem_of(path)[: len(beginning)]


def test_standard_input_is_not_read_beyond_the_limit() -> None:
    stdin = io.BytesIO(b"#" * (3 * MAX_SIZE_BYTES))
    beginning = "<stdin>: is larger than 4194304 bytes (it has 4194305 or more)"
    assert (beginning, MAX_SIZE_BYTES + 1) == (
        problem_of("-", stdin=stdin)[: len(beginning)],
        stdin.tell(),
    )


def test_a_file_of_just_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "glider.yaml"
    path.write_bytes(text_of("10.0.0.1:80").ljust(MAX_SIZE_BYTES, b"#"))
    assert (str(path), "10.0.0.1:80") == source_and_bind(load(path))


def test_a_closed_standard_input_is_told() -> None:
    stdin = io.BytesIO()
    stdin.close()
    assert problem_of("-", stdin=stdin) == "<stdin>: cannot be read: I/O operation on closed file."


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0)
    expected = (
        f"{path}: cannot be read: change its mode (chmod 644), or run as its owner. In a container"
        " without CAP_DAC_OVERRIDE root cannot read the private files of other users"
    )
    assert expected == problem_of(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ": does not exist; check the path"),
        ("/dev/null/x", "/dev/null/x: cannot be read: Not a directory"),
        ("\x1b[2J\n", r"\x1b[2J\n: does not exist; check the path"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_in_one_line(path: str, expected: str) -> None:
    assert expected == problem_of(path)


def test_a_path_with_a_nul_is_told_in_one_line() -> None:
    """In the words of this Python."""
    reason = problem_of("a\0b")
    assert reason.startswith(r"a\x00b: cannot be read: ")
    assert reason.isprintable()


def test_a_wrong_configuration_ends_with_ex_config() -> None:
    with pytest.raises(ConfigError) as caught:
        load("-", stdin=io.BytesIO(b"[]"))
    assert caught.value.exit_code == 78


def test_importing_the_loader_imports_little() -> None:
    """The command line starts on small devices; what only an error needs comes with the error."""
    script = (
        "import sys, yaml, __future__, ipaddress, dataclasses, typing;"
        "before = {*sys.modules, *sys.builtin_module_names};"
        "import paraglider.config.load;"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('paraglider')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_small_file_imports_nothing_of_the_keys_that_it_has_not() -> None:
    """Each module takes a small device a millisecond or more at every start."""
    script = (
        "import sys; from paraglider.config.parse import parse_config;"
        f"parse_config({text_of('10.0.0.1:80')!r}, source='f');"
        "print([m for m in ('access', 'bind', 'check', 'overlap', 'policy', 'ports', 'source')"
        " if f'paraglider.config.{m}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_reading_every_key_imports_no_more() -> None:
    """What a check needs at work (ssl, json) is not needed to read it."""
    text = (
        "frontend: {bind: 10.0.0.1:80, privateip: 10.0.0.1, backends: [web:80, {address: b:80,"
        " check: {type: https, ca: /ca}}], check: {type: http, host: '[fd00::1]', interval: 1.5s},"
        " quorum: {live: 1}, slow_start: 1s, on_down: keep, allow: [10.0.0.0/8], rate: 9/s,"
        " protocol: udp, refuse: drop}"
    )
    script = (
        "import sys, paraglider.config.load; before = set(sys.modules);"
        "from paraglider.config.parse import parse_config;"
        f"parse_config({text.encode()!r}, source='f');"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('paraglider')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
