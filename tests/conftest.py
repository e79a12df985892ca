"""What holds for all tests: in CI, no suite may be skipped whole or be empty.

A test that cannot run on somebody's machine is skipped with the reason. On CI's machine everything
can be had, so a suite of which nothing ran is a hole that would otherwise look green.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# How long an example takes is the machine's, and no property of the program.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

SUITES = ("unit", "golden", "netns", "compose")
TESTS = Path(__file__).parent


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The `paraglider` command of this tree, as a file."""
    path = tmp_path / "paraglider"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m paraglider "$@"\n')
    path.chmod(0o755)
    return path


class SuitesThatRan:
    """Notes the suite of each test that was not skipped, and fails a whole run without one.

    It lives where the reports of all tests arrive, also when several processes run them.
    """

    def __init__(self) -> None:
        self._ran: set[str] = set()

    @property
    def missing(self) -> list[str]:
        """The suites of which no test has run."""
        return [suite for suite in SUITES if suite not in self._ran]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note where a test that has run is from: ``tests/unit/test_cli.py::test_version``."""
        parts = report.nodeid.split("/")
        if report.when == "call" and not report.skipped and parts[0] == TESTS.name:
            self._ran.add(parts[1])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Make the run a failure where a suite is missing."""
        if self.missing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why, before the last line."""
        if self.missing:
            reason = f"FAILED every suite runs in CI: skipped whole, or empty: {self.missing}"
            terminalreporter.write_line(reason, red=True)


class Turns(LoadScopeScheduling):  # type: ignore[misc]
    """Gives tests to processes: those of compose/ to one, the others as each becomes free.

    compose/basic has fixed addresses, and the host has one set of rules.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "compose" if nodeid.startswith("tests/compose/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Turns:
    """Name who shares the tests out."""
    return Turns(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Look at the suites where all tests are asked for in CI, and not some by name."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_worker = hasattr(config, "workerinput")
    if os.environ.get("CI") and is_whole and not is_worker and not config.option.keyword:
        config.pluginmanager.register(SuitesThatRan())
