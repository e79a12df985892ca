"""Completion: a shell that runs the script offers commands, options, files and names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from paraglider.cli.main import main
from paraglider.cli.parser import NAME_KINDS, SHELLS

SEED = Path(__file__).parents[1] / "golden/cases/seed.yaml"
_SEED_BACKENDS = ["172.19.0.2:5555", "172.19.0.3:5555", "172.19.0.6:5555"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PARAGLIDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PARAGLIDER_RUN", str(tmp_path))


def _complete(program: Path, line: str, capsys: Capture) -> list[str]:
    """Return what a bash offers at the end of `line`, which it splits as readline does."""
    assert main(["completion", "bash"]) == 0
    script = f"""{capsys.readouterr().out}
_words() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); }}
{_split(line.replace("paraglider", str(program), 1))}
_paraglider
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["/bin/bash"], input=script, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def _split(line: str) -> str:
    """Return the call that sets COMP_WORDS: COMP_WORDBREAKS has ':' and '=' in it."""
    words = [""]
    for char in line:
        if char == " ":
            words.append("")
        elif (char in ":=") != (words[-1][-1:] in (":", "=")) and words[-1]:
            words.append(char)
        else:
            words[-1] += char
    return "_words " + " ".join(f"'{word}'" for word in words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("paraglider st", ["start", "stop", "status"]),
        ("paraglider check --s", ["--strict"]),
        ("paraglider completion f", ["fish", "frontends"]),
        ("paraglider -config FILE dr", ["drain"]),
        ("paraglider run --drain ", []),
        ("paraglider drain --deadline ", []),
        ("paraglider -config FILE drain 1", _SEED_BACKENDS),
        ("paraglider -config=FILE undrain 1", _SEED_BACKENDS),
        ("paraglider disable -f FILE 172.19.0.2:5", ["5555"]),
        ("paraglider enable --config FILE 172.19.0.3:", ["5555"]),
        ("paraglider drain -config FILE --frontend ", ["default"]),
        ("paraglider drain -config FILE --frontend=d", ["default"]),
        ("paraglider drain -config /nowhere 1", []),
    ],
)
def test_bash_offers_what_may_be_typed(
    line: str, expected: list[str], program: Path, capsys: Capture
) -> None:
    """Without a word on standard error, also where the file does not exist."""
    assert _complete(program, line.replace("FILE", str(SEED)), capsys) == expected


@pytest.mark.parametrize("before", ["check ", "-config ", "start -f ", "run --config="])
def test_bash_offers_files_where_a_file_is_named(
    before: str, program: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Also the FILE of `check`."""
    (tmp_path / "glider.yaml").touch()
    offered = _complete(program, f"paraglider {before}{tmp_path}/gl", capsys)
    assert offered == [f"{tmp_path}/glider.yaml"]


def test_bash_offers_backends_of_ipv6(program: Path, tmp_path: Path, capsys: Capture) -> None:
    """Whose addresses are broken at each colon."""
    path = tmp_path / "six.yaml"
    path.write_text(
        "frontend:\n  bind: '[2001:db8::1]:80'\n  privateip: 2001:db8::1\n"
        "  backends: ['[2001:db8::2]:80', '[2001:db8::3]:80']\n"
    )
    line = f"paraglider -config {path} drain [2001:db8::"
    assert _complete(program, line, capsys) == ["2]:80", "3]:80"]


def test_host_names_of_the_file_are_offered(tmp_path: Path, capsys: Capture) -> None:
    """Without a look-up: a key was pressed."""
    path = tmp_path / "names.yaml"
    path.write_text(
        "frontends:\n  - name: web\n    bind: 192.0.2.1:80\n    privateip: 192.0.2.1\n"
        "    backends: [nowhere.invalid:80, 192.0.2.2:80]\n"
        "  - name: mail\n    bind: 192.0.2.1:25\n    privateip: 192.0.2.1\n"
        "    backends: [192.0.2.2:80]\n"
    )
    said = []
    for kind in NAME_KINDS:
        assert main(["-config", str(path), "completion", kind]) == 0
        said.append(capsys.readouterr().out.split())
    assert said == [["nowhere.invalid", "192.0.2.2:80"], ["web", "mail"]]


def test_standard_input_is_not_read_for_names(capsys: Capture) -> None:
    """It is the terminal."""
    assert main(["-config", "-", "completion", "backends"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_script_names_every_command(shell: str, capsys: Capture) -> None:
    """And is one that the shell itself can read, where it is installed."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in ("start", "stop", "check", "render", "diff", "status", "demo"):
        assert command in script
    for kind in NAME_KINDS:
        assert kind in script
    if path := shutil.which(shell):
        read = subprocess.run([path, "-n"], input=script, text=True, check=False)
        assert read.returncode == 0
