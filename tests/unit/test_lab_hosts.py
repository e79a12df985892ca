"""The parts of a lab that need no namespace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import paraglider
from paraglider.lab import reaper
from paraglider.lab.hosts import CommandFailed, make_environment

ROOT = str(Path(paraglider.__file__).parent.parent)


def test_commands_find_iptables_on_an_ordinary_users_path() -> None:
    assert "/usr/sbin" in make_environment({"PATH": "/usr/bin"})["PATH"].split(":")


def test_commands_import_this_paraglider_first() -> None:
    assert make_environment({"PYTHONPATH": "/other"})["PYTHONPATH"] == f"{ROOT}:/other"


def test_no_python_path_stays_without_an_empty_entry() -> None:
    assert make_environment({})["PYTHONPATH"] == ROOT


def test_failed_command_says_where_what_and_why() -> None:
    error = CommandFailed("client", ["ip", "route"], returncode=2, output="no such device\n")
    assert str(error) == "On the lab's host client, `ip route` ended with code 2: no such device"


def test_warden_refuses_the_mount_namespace_of_its_owner() -> None:
    own = reaper.read_mount_namespace("self")
    assert own is not None
    argv = [sys.executable, "-I", "-S", reaper.__file__, own]
    done = subprocess.run(argv, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_warden_refuses_where_no_owner_is_named() -> None:
    argv = [sys.executable, "-I", "-S", reaper.__file__]
    done = subprocess.run(argv, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
