"""The tables: every cell is the least, the middle and the greatest of all rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.compare import figures
from bench.compare.figures import Figure, Round, added, added_ratio, each, ratio
from bench.compare.load import MEMORY_CONNECTIONS, SavedState
from bench.compare.subjects import CONNTRACK, PRODUCTS, ROUTED, THE_HAPROXY
from bench.markdown import Spread, head, row, spread_of, verdict

MAX_OF_CONNTRACK = 1.5
MAX_OF_HAPROXY = 0.25
MIN_THROUGHPUT = 0.95


def report_connections(rounds: Sequence[Round]) -> Iterator[str]:
    """Yield what a new connection costs."""
    yield "**New connections**, a byte there and back on each:\n"
    titles = ("per second", "CPU µs each", "added to routed, µs", "conntrack's own times")
    yield head("", *titles, texts=1)
    for name in rounds[0]:
        cells = [_spread(each(rounds, name, figures.connections_per_s), "{:,.0f}")]
        cells.append(_spread(each(rounds, name, figures.connection_us), "{:.1f}"))
        if name != ROUTED:
            cells.append(_spread(added(rounds, name, figures.connection_us), "{:.1f}"))
        if name not in (ROUTED, CONNTRACK):
            cells.append(_render(added_ratio(rounds, name, figures.connection_us), "{:.2f}"))
        yield row(name, *_filled(cells, 4))


def report_requests(rounds: Sequence[Round]) -> Iterator[str]:
    """Yield what connections that stay can do."""
    yield "\n**Kept connections**, 64 bytes there and back, again and again:\n"
    titles = ("round trips per second", "of conntrack's", "p50 µs", "p99 µs")
    yield head("", *titles, texts=1)
    for name in rounds[0]:
        yield row(
            name,
            _spread(each(rounds, name, figures.requests_per_s), "{:,.0f}"),
            _ratio(rounds, name, figures.requests_per_s),
            _spread(each(rounds, name, figures.p50_us), "{:,.0f}"),
            _spread(each(rounds, name, figures.p99_us), "{:,.0f}"),
        )


def report_bulk(rounds: Sequence[Round]) -> Iterator[str]:
    """Yield what bytes cost."""
    yield "\n**Bulk**, from the backends to the client:\n"
    titles = ("Gbit/s", "of conntrack's", "CPU ms per GB", "added to routed, ms")
    yield head("", *titles, texts=1)
    for name in rounds[0]:
        cells = [
            _spread(each(rounds, name, figures.gbit_per_s), "{:.1f}"),
            _ratio(rounds, name, figures.gbit_per_s),
            _spread(each(rounds, name, figures.gigabyte_ms), "{:.0f}"),
        ]
        if name != ROUTED:
            cells.append(_spread(added(rounds, name, figures.gigabyte_ms), "{:.0f}"))
        yield row(name, *_filled(cells, 4))


def report_memory(memory: Mapping[str, SavedState | None]) -> Iterator[str]:
    """Yield what the processes take that connections pass through."""
    yield f"\n**Memory** of the processes in the way, {MEMORY_CONNECTIONS:,} connections in use:\n"
    yield head("", "processes", "RSS MiB", "PSS MiB", texts=1)
    for name, found in memory.items():
        if found is None:
            yield row(name, 0, 0, 0)
        else:
            yield row(name, found.processes, f"{found.rss_mib:.1f}", f"{found.pss_mib:.1f}")


def report_limits(rounds: Sequence[Round]) -> Iterator[str]:
    """Yield the three requirements, each with the line that says whether it held."""
    found = {name: _ratios_of_limits(rounds, name) for name in PRODUCTS if name in rounds[0]}
    yield "\n**What is needed**, in the middle of the rounds:\n"
    yield head("", *_LIMITS, texts=1)
    for name, limits in found.items():
        cells = zip(_LIMITS, limits, strict=True)
        yield row(name, *(_render(of, _form(title)) if of else "?" for title, of in cells))
    for number, (title, needed) in enumerate(_LIMITS.items()):
        broken = []
        for name, limits in found.items():
            of = limits[number]
            if of is None:
                broken.append(f"{name}, not measured")
            elif not _holds(title, of.middle):
                broken.append(f"{name}, {_form(title).format(of.middle)}")
        yield verdict(needed, broken_by=broken)


_OF_CONNTRACK, _OF_HAPROXY, _THROUGHPUT = (
    "added CPU, of conntrack's",
    "added CPU, of HAProxy's",
    "Gbit/s, of conntrack's",
)
_LIMITS = {
    _OF_CONNTRACK: f"at most {MAX_OF_CONNTRACK:g} times what conntrack alone adds to a connection",
    _OF_HAPROXY: f"at most {MAX_OF_HAPROXY:g} of what HAProxy adds to a connection",
    _THROUGHPUT: f"at least {MIN_THROUGHPUT:g} of routed with conntrack's throughput",
}


def _ratios_of_limits(rounds: Sequence[Round], name: str) -> tuple[Spread | None, ...]:
    """Return the ratios that `_LIMITS` are about; None where what one needs was not measured."""
    to_haproxy = (
        added_ratio(rounds, name, figures.connection_us, to=THE_HAPROXY)
        if THE_HAPROXY in rounds[0]
        else None
    )
    return (
        added_ratio(rounds, name, figures.connection_us),
        to_haproxy,
        ratio(rounds, name, figures.gbit_per_s),
    )


def _form(title: str) -> str:
    """Return how a ratio is written: as finely as it is known."""
    return "{:.3f}" if title == _THROUGHPUT else "{:.2f}"


def _holds(title: str, middle: float) -> bool:
    if title == _THROUGHPUT:
        return middle >= MIN_THROUGHPUT
    return middle <= (MAX_OF_CONNTRACK if title == _OF_CONNTRACK else MAX_OF_HAPROXY)


def _ratio(rounds: Sequence[Round], name: str, figure: Figure) -> str:
    return "" if name == CONNTRACK else _render(ratio(rounds, name, figure), "{:.2f}")


def _spread(values: Sequence[float], form: str) -> str:
    return _render(spread_of(values), form)


def _render(found: Spread, form: str) -> str:
    return " / ".join(form.format(value) for value in found)


def _filled(cells: Sequence[str], count: int) -> list[str]:
    return [*cells, *[""] * (count - len(cells))]
