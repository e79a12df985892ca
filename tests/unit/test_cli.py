"""The command line, as far as it needs neither root nor a kernel."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paraglider import __version__
from paraglider.cli.commands import COMMANDS
from paraglider.cli.context import Context
from paraglider.cli.main import main
from paraglider.cli.parser import build_parser, parse_line

SEED = Path(__file__).parents[1] / "golden/cases/seed.yaml"

Capture = pytest.CaptureFixture[str]
# In a network of its own: an agent of this host would be in the way first.
_WITHOUT_RIGHTS = (
    ["unshare", "--net", "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    if os.geteuid() == 0
    else []
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PARAGLIDER_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "line",
    [
        "-config FILE check",
        "--config FILE check",
        "check -config FILE",
        "check --config FILE",
        "-config=FILE check",
        "check --config=FILE",
    ],
)
def test_the_file_is_named_as_the_original_program_had_it(line: str, capsys: Capture) -> None:
    """One dash or two, before the command or after it."""
    assert main(line.replace("FILE", str(SEED)).split()) == 0
    assert capsys.readouterr().out == f"{SEED}: configuration OK (1 frontend, 3 backends)\n"


def test_without_a_file_the_default_one_is_read() -> None:
    """The seed's place."""
    assert build_parser().parse_args(["check"]).config is None
    assert "/etc/paraglider/glider.yaml" in build_parser().format_help()


@pytest.mark.parametrize(
    "line",
    ["", "--help", "strat", "check --help", "-config start drain --help", "drain", "status check"],
)
def test_a_line_gets_the_same_answer_from_the_parser_that_is_made_for_it(
    line: str, capsys: Capture
) -> None:
    """Which knows the options of the commands on it alone."""
    words = line.split()
    answers = []
    for parser in (build_parser(), build_parser(words)):
        with pytest.raises(SystemExit) as caught:
            parse_line(words, parser=parser)
        answers.append((caught.value.code, capsys.readouterr()))
    assert answers[0] == answers[1]


def test_a_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """And messages call it <stdin>."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SEED.read_bytes())))
    assert main(["-config", "-", "check"]) == 0
    assert capsys.readouterr().out.startswith("<stdin>: configuration OK")


def test_variables_stand_in_for_a_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Where no file can be mounted."""
    monkeypatch.setenv("PARAGLIDER_BIND", "192.0.2.10:80")
    monkeypatch.setenv("PARAGLIDER_PRIVATEIP", "192.0.2.10")
    monkeypatch.setenv("PARAGLIDER_BACKENDS", "192.0.2.11:80,192.0.2.12:80")
    assert main(["render"]) == 0
    assert capsys.readouterr().out.count("-j DNAT --to-destination") == 2


def test_every_problem_of_a_file_is_on_a_line_of_its_own(tmp_path: Path, capsys: Capture) -> None:
    """Exit code 78; the lines begin as editors look for them."""
    path = tmp_path / "glider.yaml"
    path.write_text("frontend:\n  bind: 1.2.3.4:99999\n  privatip: 1.2.3.4\n  backends: []\n")
    assert main(["-config", str(path), "check"]) == 78
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[:2] for line in lines] == [
        [f"{path}:2:9:", "frontend.bind:"],
        [f"{path}:3:3:", "frontend:"],
        [f"{path}:4:13:", "frontend.backends:"],
    ]


def test_what_does_not_fit_this_host_is_a_warning_or_with_strict_an_error(
    capsys: Capture,
) -> None:
    """TEST-NET addresses are on no interface."""
    case = str(SEED.with_name("one-backend.yaml"))
    assert main(["check", "-config", case]) == 0
    assert (
        "warning: default: bind 192.0.2.10 is not an address of this host"
        in capsys.readouterr().err
    )
    assert main(["check", "-config", case, "--strict"]) == 78


def test_render_prints_the_golden_file(capsys: Capture) -> None:
    """What is tested is what a user sees."""
    assert main(["-config", str(SEED), "render"]) == 0
    assert capsys.readouterr().out == SEED.with_suffix(".rules").read_text()


def test_render_prints_the_rules_of_the_variant_that_is_asked_for(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of iptables-legacy have a list of xt_recent more; another word is an error."""
    monkeypatch.setenv("PARAGLIDER_IPTABLES", "legacy")
    assert main(["-config", str(SEED), "render"]) == 0
    assert "-m recent --rcheck" in capsys.readouterr().out
    monkeypatch.setenv("PARAGLIDER_IPTABLES", "ipset")
    assert main(["-config", str(SEED), "render"]) == 78
    said = capsys.readouterr().err
    assert said == (
        "environment: PARAGLIDER_IPTABLES: 'ipset' is not a variant of iptables;"
        " write nft or legacy\n"
    )


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_time_without_a_unit_names_its_variable(
    command: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 78: it is a setting, like the file."""
    monkeypatch.setenv("PARAGLIDER_DRAIN", "30")
    assert main([command, "-config", str(SEED)]) == 78
    said = capsys.readouterr().err
    assert "environment: PARAGLIDER_DRAIN: '30' has no unit; write 30s (or ms, m, h, d)" in said


def test_an_unknown_variable_is_a_warning_or_with_strict_an_error(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest that exists."""
    monkeypatch.setenv("PARAGLIDER_BACKEND", "10.0.0.2:80")
    assert main(["check", str(SEED)]) == 0
    warned = "unknown environment variable PARAGLIDER_BACKEND; did you mean PARAGLIDER_BACKENDS?"
    assert f"paraglider: warning: {warned}\n" in capsys.readouterr().err
    assert main(["check", "--strict", str(SEED)]) == 78
    assert f"{SEED}: {warned}\n" in capsys.readouterr().err


def test_a_check_misses_what_affinity_needs(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it runs; without affinity nobody asks."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("paraglider.kernel.process._SYSTEM_PATHS", str(tmp_path))
    for name, is_reason in (("affinity", True), ("one-backend", False)):
        assert main(["check", "-config", str(SEED.with_name(f"{name}.yaml"))]) == 0
        assert ("affinity needs ipset" in capsys.readouterr().err) is is_reason


def test_a_frontend_of_both_families_is_one(tmp_path: Path, capsys: Capture) -> None:
    """As in the file; and so is a backend that is a name."""
    path = tmp_path / "glider.yaml"
    binds = 'bind: ["10.0.0.1:80", "[fd00::1]:80"]'
    path.write_text(f"frontend:\n  {binds}\n  privateip: auto\n  backends: [web:80, 10.0.0.2:80]\n")
    assert main(["check", "-config", str(path)]) == 0
    assert "configuration OK (1 frontend, 2 backends)" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "program"), [("-4", "iptables"), ("-6", "ip6tables")])
def test_render_prints_one_family_for_a_pipe(option: str, program: str, capsys: Capture) -> None:
    """Of a file that has both."""
    case = str(SEED.with_name("dual-stack.yaml"))
    assert main(["render", option, "-config", case]) == 0
    headers = [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")]
    assert headers == [f"# {program}-restore --noflush"]


@pytest.mark.parametrize("line", ["", "frobnicate", "start --fast", "check a b", "completion tcsh"])
def test_a_wrong_command_line_is_a_usage_error(line: str, capsys: Capture) -> None:
    """Exit code 2 and the usage."""
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert "usage: paraglider" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "stop", "run", "diff", "status"])
def test_without_the_capability_it_is_a_matter_of_permission(command: str) -> None:
    """Exit code 77 and the mend, for whoever may not."""
    argv = [sys.executable, "-m", "paraglider", command, "-config", str(SEED)]
    done = subprocess.run([*_WITHOUT_RIGHTS, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 77
    assert "docker run --cap-add=NET_ADMIN" in done.stderr


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("stat", "status"),
        ("sta", "status"),
        ("stats", "status"),
        ("chek", "check"),
        ("hlep", "help"),
    ],
)
def test_the_nearest_harmless_command_is_named(word: str, meant: str, capsys: Capture) -> None:
    """As the nearest key of a file is."""
    assert f"no such command: {word}; did you mean {meant}?" in _usage_error([word], capsys)


@pytest.mark.parametrize("word", ["strat", "startt", "stp", "stopp", "rum", "relaod", "drian"])
def test_a_guess_never_suggests_to_change_anything(word: str, capsys: Capture) -> None:
    """All commands are listed."""
    said = _usage_error([word], capsys)
    assert "did you mean" not in said
    assert "commands: start, stop, run, check" in said


def _usage_error(words: list[str], capsys: Capture) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("status --jsn", ["[--json] [--quiet]", "unknown arguments: --jsn; did you mean --json?"]),
        ("drain", ["[--deadline TIME]", "BACKEND"]),
        ("start glider.yaml", ["to name a file, write -config glider.yaml"]),
        ("glider.yaml start", ["to name a file, write -config glider.yaml"]),
        ("-t start", ["-t means check"]),
        ("start -t", ["unknown arguments: -t"]),
        ("check a.yaml -f b.yaml", ["two files, b.yaml and a.yaml: name one"]),
        ("completion tcsh", ["unknown value tcsh; choose one of: bash, zsh, fish"]),
        ("help strat", ["no such command: strat"]),
        ("", ["no command; commands: start, stop"]),
    ],
)
def test_a_usage_error_shows_the_options_and_what_to_type(
    line: str, reason: list[str], capsys: Capture
) -> None:
    """Those of the command, where there is one."""
    said = _usage_error(line.split(), capsys)
    assert [text for text in reason if text not in said] == []


@pytest.mark.parametrize(
    "line", ["-f FILE check", "check -f FILE", "-t -f FILE", "-config FILE -t", "check FILE"]
)
def test_habits_of_other_servers_check_the_file(line: str, capsys: Capture) -> None:
    """`nginx -t`, `haproxy -f`."""
    assert main(line.replace("FILE", str(SEED)).split()) == 0
    assert "configuration OK" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "same"),
    [("help", "--help"), ("help drain", "drain --help"), ("version", "--version")],
)
def test_a_word_does_what_its_option_does(line: str, same: str, capsys: Capture) -> None:
    """`help`, `version`."""
    assert main(line.split()) == 0
    answer = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(same.split())
    assert answer == capsys.readouterr().out


@pytest.mark.parametrize(
    ("redirection", "code"),
    [("<&-", 0), (">&-", 0), ("2>&-", 0), (">/dev/full", 69), ("| head -n 1", 0)],
)
def test_a_closed_or_full_stream_is_no_traceback(redirection: str, code: int) -> None:
    """Whatever a shell gives it."""
    command = f"{sys.executable} -m paraglider -config {SEED} render {redirection}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_an_unreadable_log_changes_no_exit_code(tmp_path: Path) -> None:
    """A full stderr: of a wrong file, and of a warning before the work."""
    path = tmp_path / "glider.yaml"
    path.write_text("frontend: {}\n")
    for file, code in ((path, 78), (SEED, 0)):
        command = f"{sys.executable} -m paraglider -config {file} check 2>/dev/full"
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
        assert done.returncode == code


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/x"),
            "schema failed: /proc/x: No such file or directory",
        ),
        (PermissionError(errno.EPERM, "Operation not permitted"), "Operation not permitted"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "schema failed: Broken pipe"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files (raise the limit"),
        (TimeoutError("timed out"), "schema failed: timed out"),
    ],
)
def test_an_error_of_the_system_is_told_by_its_own_cause(
    error: OSError, reason: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as one of printing; without Python's notation."""

    def fail(_: Context) -> int:
        raise error

    monkeypatch.setitem(COMMANDS, "schema", fail)
    assert main(["schema"]) == 69
    said = capsys.readouterr().err
    assert reason in said
    assert "Errno" not in said
    assert "print" not in said


def test_check_imports_little() -> None:
    """On a small device an import is most of what it costs. Without rights it starts no program."""
    script = (
        "import sys; from paraglider.cli.main import main; "
        f"main(['-config', {str(SEED)!r}, 'check']); "
        "print({'subprocess', 'difflib', 'json', 'paraglider.lab.hosts'} & set(sys.modules))"
    )
    done = subprocess.run(
        [*_WITHOUT_RIGHTS, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_version_is_told(capsys: Capture) -> None:
    """As everywhere."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"paraglider {__version__}\n"


def test_the_schema_is_json(capsys: Capture) -> None:
    """For editors."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")
