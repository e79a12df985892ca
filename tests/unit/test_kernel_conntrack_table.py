"""The table of connections: what it shows, what is set, and what is said before it is full."""

from __future__ import annotations

from pathlib import Path

from paraglider.kernel.conntrack_table import (
    Conntrack,
    FillWatch,
    read_conntrack,
    shorten_time_wait,
)
from paraglider.kernel.host import Host

_NAMES = "entries  clashres found new invalid ignore delete insert insert_failed drop early_drop"
_ROW = "0000000c " + 8 * " 00000000" + " {} 00000000"


def _host(proc: Path, *, time_wait_s: int = 120) -> Host:
    folder = proc / "sys/net/netfilter"
    folder.mkdir(parents=True)
    (proc / "net/stat").mkdir(parents=True)
    (folder / "nf_conntrack_count").write_text("12\n")
    (folder / "nf_conntrack_max").write_text("262144\n")
    (folder / "nf_conntrack_tcp_timeout_time_wait").write_text(f"{time_wait_s}\n")
    rows = [_NAMES, _ROW.format("00000010"), _ROW.format("00000001")]
    (proc / "net/stat/nf_conntrack").write_text("\n".join([*rows, ""]))
    return Host(proc)


def test_it_shows_how_full_it_is_and_what_was_dropped(tmp_path: Path) -> None:
    """Of all processors together; None where the module is not loaded."""
    assert read_conntrack(Host(tmp_path)) is None
    assert read_conntrack(_host(tmp_path)) == Conntrack(12, 262144, 120, 17)


def test_ended_connections_go_sooner_where_that_may_be_set(tmp_path: Path) -> None:
    """It is said once; a host that is set so, or shorter, is left alone."""
    host, said = _host(tmp_path), list[str]()
    shorten_time_wait(host, said.append)
    shorten_time_wait(host, said.append)
    assert said == [
        "the conntrack table kept ended connections for 120 s; set to 10 s for the whole host"
    ]
    found = read_conntrack(host)
    assert found is not None
    assert found.time_wait_s == 10
    shorten_time_wait(_host(tmp_path / "short", time_wait_s=3), said.append)
    assert len(said) == 1


def test_where_it_may_not_be_set_nothing_is_said_or_raised(tmp_path: Path) -> None:
    """/proc/sys is read-only in most containers; without conntrack there is no such file."""

    def refuse(path: str, text: str) -> None:
        raise PermissionError(path, text)

    proc, said = tmp_path / "full", list[str]()
    shorten_time_wait(Host(_host(proc).proc, write=refuse), said.append)
    shorten_time_wait(Host(tmp_path), said.append)
    assert said == []


class Watched:
    """A watch whose clock and table a test turns."""

    def __init__(self) -> None:
        self.now_s, self.percent, self.time_wait_s = 0.0, 0, 120
        self.said: list[str] = []
        self.watch = FillWatch(read=self._read, report=self.said.append, clock=lambda: self.now_s)

    def _read(self) -> Conntrack:
        return Conntrack(10 * self.percent, 1000, self.time_wait_s)

    def look(self, percent: int) -> None:
        """Look, when it is time next."""
        self.now_s, self.percent = self.watch.next_s(), percent
        self.watch.look()


def test_a_table_that_fills_is_told_of_once_with_the_mend() -> None:
    """And that it has room again; between the two limits nothing is said."""
    watched = Watched()
    for percent in (10, 79, 80, 99, 75, 85, 69, 10):
        watched.look(percent)
    assert watched.said == [
        "the conntrack table is 80 % full (800 of 1000); at 100 % no new connection passes:"
        " on the host, run: sysctl -w net.netfilter.nf_conntrack_tcp_timeout_time_wait=10, or"
        " sysctl -w net.netfilter.nf_conntrack_max=2000",
        "the conntrack table has room again: 69 % in use",
    ]


def test_where_ended_ones_go_soon_only_more_room_helps() -> None:
    """What is set already is not asked for."""
    watched = Watched()
    watched.time_wait_s = 10
    watched.look(90)
    assert watched.said[0].endswith("run: sysctl -w net.netfilter.nf_conntrack_max=2000")
