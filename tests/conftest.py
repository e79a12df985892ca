"""What holds for all tests: in CI, no suite may be skipped whole or be empty.

A test that cannot run on somebody's machine is skipped with the reason. On CI's machine everything
can be had, so a suite of which nothing ran is a hole that would otherwise look green.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

SUITES = ("unit", "golden", "netns", "compose")
TESTS = Path(__file__).parent

_RAN = pytest.StashKey[set[str]]()


def suite_of(path: Path) -> str:
    """Return the folder of tests/ that a test file is in."""
    return path.relative_to(TESTS).parts[0]


class EverySuiteRan(pytest.Item):
    """The last test of a whole run in CI: fails with the names of the suites that did not run."""

    def runtest(self) -> None:
        missing = [suite for suite in SUITES if suite not in self.config.stash[_RAN]]
        if missing:
            pytest.fail(f"skipped whole, or empty: {', '.join(missing)}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        return TESTS, None, self.name


def pytest_configure(config: pytest.Config) -> None:
    """Start with no suite."""
    config.stash[_RAN] = set()


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the test of the suites where all tests are asked for, and not some by name."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if os.environ.get("CI") and is_whole and not config.option.keyword:
        items.append(EverySuiteRan.from_parent(session, name="every suite ran"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the suite of each test that was not skipped."""
    report = yield
    if report.when == "call" and not report.skipped and item.path.is_relative_to(TESTS):
        item.config.stash[_RAN].add(suite_of(item.path))
    return report
