"""Check errors: the log has each once, however many backends and probes it concerns."""

from __future__ import annotations

from ipaddress import ip_address

from paraglider.agent.check_errors import CheckErrors
from paraglider.config.model import Endpoint
from tests.services import bind_at

_BIND = bind_at(Endpoint(ip_address("192.0.2.10"), 80))
_ONE, _TWO, _THREE = ((_BIND, Endpoint(ip_address(f"10.0.0.{n}"), 80)) for n in (1, 2, 3))
_NO_FILES = "cannot open a socket: too many open files"


class Log:
    """What was logged, and a clock that a test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.lines: list[str] = []
        self.errors = CheckErrors(self.lines.append, lambda: self.now_s)

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines[:] = list(self.lines), []
        return lines


def test_an_error_of_many_backends_is_one_line_and_so_is_its_end() -> None:
    """Hours later, too: it is the same one while any backend has it."""
    log = Log()
    for _ in range(3):
        for pair in (_ONE, _TWO):
            log.errors.begin(pair, "web", _NO_FILES)
        log.now_s += 3600.0
    log.errors.begin(_THREE, "web", _NO_FILES)
    assert log.take() == [f"web: cannot probe 10.0.0.1:80: {_NO_FILES}; health unchanged"]
    for pair in (_ONE, _TWO):
        log.errors.end(pair)
        log.errors.end(pair)
    assert log.take() == []
    log.errors.end(_THREE)
    assert log.take() == [f"web: probing works again (was: {_NO_FILES})"]


def test_another_reason_or_frontend_is_another_line() -> None:
    """Each is something else to mend."""
    log = Log()
    log.errors.begin(_ONE, "web", _NO_FILES)
    log.errors.begin(_ONE, "web", "cannot read ca /ca.pem")
    log.errors.begin(_TWO, "shop", "cannot read ca /ca.pem")
    assert [line.split(";")[0] for line in log.take()] == [
        f"web: cannot probe 10.0.0.1:80: {_NO_FILES}",
        "web: cannot probe 10.0.0.1:80: cannot read ca /ca.pem",
        "shop: cannot probe 10.0.0.2:80: cannot read ca /ca.pem",
    ]


def test_one_that_comes_and_goes_is_two_lines_a_minute_at_most() -> None:
    """A host that is short of something has it again and again."""
    log = Log()
    for _ in range(59):
        log.errors.begin(_ONE, "web", _NO_FILES)
        log.errors.end(_ONE)
        log.now_s += 1.0
    assert len(log.take()) == 2
    log.now_s += 60.0
    log.errors.begin(_ONE, "web", _NO_FILES)
    assert len(log.take()) == 1


def test_reasons_without_end_do_not_fill_the_log() -> None:
    """The prober is not believed in that either."""
    log = Log()
    for number in range(1000):
        log.errors.begin(_ONE, "web", f"reason {number}")
    assert len(log.take()) == 20


def test_a_backend_that_is_not_probed_any_more_ends_no_error() -> None:
    """Nothing was mended: it left, or was disabled."""
    log = Log()
    for pair in (_ONE, _TWO):
        log.errors.begin(pair, "web", _NO_FILES)
    log.errors.keep([_TWO])
    assert len(log.take()) == 1
    log.errors.end(_ONE)
    assert log.take() == []
    log.errors.end(_TWO)
    assert log.take() == [f"web: probing works again (was: {_NO_FILES})"]
