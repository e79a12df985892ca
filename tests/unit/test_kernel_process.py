"""Programs: what comes in and out, and that none of them is waited for without an end."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paraglider.errors import DidNotEndError, UnavailableError
from paraglider.kernel.process import Finished, Program, find_program, run_program


def _sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def _finish(program: Program) -> Finished:
    while (finished := program.proceed()) is None:
        select.select([program.fileno()], [], [], 0.1)
    return finished


def test_a_program_gets_its_input_and_what_it_says_comes_back() -> None:
    """Output and errors apart, the exit code, and the language of its messages."""
    done = run_program(_sh('cat; echo "$LC_ALL" >&2; exit 3'), text="in\r\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\r\n", "C\n", 3)


def test_what_is_not_utf_8_goes_through_as_it_is() -> None:
    """Others name their chains as they like."""
    text = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert run_program(["/bin/cat"], text=text).stdout == text


def test_more_than_pipes_hold_goes_through() -> None:
    """In both directions at once."""
    text = "x" * 3_000_000
    assert run_program(["/bin/cat"], text=text).stdout == text


def test_a_program_need_not_read_its_input() -> None:
    """It has ended, and how is what counts."""
    assert run_program(["/bin/true"], text="x" * 3_000_000).returncode == 0


def test_one_that_is_missing_cannot_be_started() -> None:
    """And no descriptor is left open."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UnavailableError, match=r"cannot start /nowhere/x: No such file"):
        run_program(["/nowhere/x"])
    assert os.listdir("/proc/self/fd") == before


def test_the_signal_that_ended_it_is_told() -> None:
    """As a negative number."""
    assert run_program(_sh("kill -9 $$")).returncode == -9


def test_whoever_has_its_pipes_still_is_not_waited_for() -> None:
    """A daemon that it left behind, say."""
    done = run_program(_sh("echo said; sleep 60 & exit 0"))
    assert (done.stdout, done.returncode) == ("said\n", 0)


@pytest.mark.parametrize(
    "script",
    ["sleep 60", "echo said; sleep 60", "trap '' TERM; sleep 60", "exec >&- 2>&-; sleep 60"],
    ids=["silent", "after words", "ignores SIGTERM", "pipes closed"],
)
def test_one_that_does_not_end_is_killed_with_what_it_started(script: str, tmp_path: Path) -> None:
    """And the error names it."""
    note, child = tmp_path / "pid", tmp_path / "child"
    child.write_text(f"echo $$ >{note}; {script}\n")
    with Program(_sh(f"sh {child}; :"), "") as program:
        while not note.exists() or not note.read_text():
            program.proceed()
        with pytest.raises(DidNotEndError, match=r"sh -c .* did not end within 0.1 s and was kil"):
            program.check_time(0.1, time.monotonic() + 60)
    pid = int(note.read_text())
    deadline_s = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and _state(pid) != "Z":
        assert time.monotonic() < deadline_s


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_what_it_takes_and_prints_gives_it_more_time() -> None:
    """100 kB are two seconds: a hundred thousand rules take the kernel long."""
    with Program(["/bin/cat"], "x" * 50_000) as program:
        _finish(program)
        started_s = time.monotonic()
        program.check_time(5.0, started_s + 6.5)
        with pytest.raises(DidNotEndError, match=r"within 7.0 s"):
            program.check_time(5.0, started_s + 7.5)


def test_it_leaves_no_descriptor_open() -> None:
    """An agent starts thousands."""
    before = os.listdir("/proc/self/fd")
    for script in ("exit 0", "kill -9 $$", "exec <&- >&-"):
        run_program(_sh(script))
    with Program(_sh("sleep 60"), ""):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_streams_that_were_closed_do_not_get_into_the_way() -> None:
    """A process that was started without any of the three."""
    code = (
        "import os\n"
        "from paraglider.kernel.process import run_program\n"
        "done = run_program(['/bin/sh', '-c', 'cat; echo err >&2'], text='in')\n"
        "os._exit(0 if (done.stdout, done.stderr) == ('in', 'err\\n') else 1)\n"
    )
    argv = [sys.executable, "-c", code]
    closed = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *argv]
    assert subprocess.run(closed, check=False).returncode == 0


def test_a_program_is_found_where_iptables_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where PATH does not lead; what cannot be run is none."""
    monkeypatch.setenv("PATH", "")
    assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")
    assert find_program("no-such-program") is None
