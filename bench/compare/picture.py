"""The picture: one panel a figure, one bar a subject, as a part of what conntrack alone does.

A bar ends at the middle of the rounds; the line over it goes from the least to the greatest. SVG,
written as text, on a ground of its own, so that it reads the same on a light page and a dark one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.compare import figures
from bench.compare.figures import Round, added_ratio, ratio
from bench.compare.report import MAX_OF_CONNTRACK, MIN_THROUGHPUT
from bench.compare.subjects import CONNTRACK, PRODUCTS, ROUTED
from bench.markdown import Spread

_WIDTH, _PANEL_WIDTH = 960, 470
_LABELS, _VALUES = 172, 56
_TOP, _HEAD, _ROW, _GAP = 58, 34, 24, 22
_OWN, _OTHERS, _INK, _QUIET, _LIMIT = "#1f6feb", "#8c959f", "#1f2328", "#57606a", "#cf222e"
_BOLD = f'fill="{_INK}" font-weight="600"'
_SMALL = f'fill="{_QUIET}"'
_AT_END = f'fill="{_INK}" text-anchor="end"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A title, a line at a limit where there is one, and what came of each subject."""

    title: str
    limit: float | None
    values: dict[str, Spread]

    @property
    def scale(self) -> float:
        """The value that the right edge stands for; what lies outside ends there."""
        return 1.05 * max(found.middle * 1.1 for found in self.values.values())


def draw(rounds: Sequence[Round]) -> str:
    """Return the picture's SVG."""
    panels = _plan_panels(rounds)
    rows = max(len(panel.values) for panel in panels)
    panel_height = _HEAD + rows * _ROW + _GAP
    height = _TOP + 2 * panel_height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif" font-size="12.5" '
        f'role="img" aria-label="{_describe(panels)}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 26, f"Beside a router with conntrack, which is 1; {len(rounds)} rounds", _BOLD),
        _text(20, 44, "bar: middle; line: least to greatest; dashed: what is needed", _SMALL),
    ]
    for number, panel in enumerate(panels):
        x, y = number % 2 * (_WIDTH - _PANEL_WIDTH), _TOP + number // 2 * panel_height
        parts += _draw_panel(panel, x, y)
    return "\n".join([*parts, "</svg>", ""])


def _plan_panels(rounds: Sequence[Round]) -> list[Panel]:
    others = [name for name in rounds[0] if name not in (ROUTED, CONNTRACK)]
    rates = [name for name in rounds[0] if name != CONNTRACK]
    cost = {name: added_ratio(rounds, name, figures.connection_us) for name in others}
    found = [Panel("CPU added to each new connection (less is better)", MAX_OF_CONNTRACK, cost)]
    for title, limit, figure in (
        ("New connections per second (more is better)", None, figures.connections_per_s),
        ("Round trips per second on kept connections", None, figures.requests_per_s),
        ("Gbit/s", MIN_THROUGHPUT, figures.gbit_per_s),
    ):
        found.append(Panel(title, limit, {name: ratio(rounds, name, figure) for name in rates}))
    return found


def _draw_panel(panel: Panel, x: int, y: int) -> list[str]:
    left, width = x + _LABELS, _PANEL_WIDTH - _LABELS - _VALUES
    unit = width / panel.scale
    bottom = y + _HEAD + len(panel.values) * _ROW
    parts = [_text(x + 20, y + 18, panel.title, _BOLD)]
    for number, (name, found) in enumerate(panel.values.items()):
        middle_y = y + _HEAD + number * _ROW + _ROW / 2
        parts += _draw_bar(name, found, (left, middle_y), (unit, panel.scale))
    for value, ink in ((1.0, _QUIET), (panel.limit, _LIMIT)):
        if value is not None and value <= panel.scale:
            at = left + value * unit
            dash = ' stroke-dasharray="4 3"' if ink == _LIMIT else ""
            parts.append(
                f'<path d="M{at:.1f} {y + _HEAD - 4}V{bottom}" stroke="{ink}"{dash} fill="none"/>'
            )
    return parts


def _draw_bar(
    name: str, found: Spread, origin: tuple[float, float], scale: tuple[float, float]
) -> list[str]:
    (left, y), (unit, most) = origin, scale
    ink = _OWN if name in PRODUCTS else _OTHERS
    low, middle, high = (max(0.0, min(value, most)) for value in found)
    ends = (left + low * unit, left + high * unit)
    ticks = "".join(f"M{at:.1f} {y - 4}V{y + 4}" for at in ends)
    return [
        _text(left - 6, y + 4, name, _AT_END),
        f'<rect x="{left}" y="{y - 8}" width="{middle * unit:.1f}" height="16" fill="{ink}"/>',
        f'<path d="M{ends[0]:.1f} {y}H{ends[1]:.1f}{ticks}" stroke="{_INK}" fill="none"/>',
        _text(left + max(high, middle) * unit + 6, y + 4, f"{found.middle:.2f}"),
    ]


def _text(x: float, y: float, text: str, style: str = f'fill="{_INK}"') -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{text}</text>'


def _describe(panels: Sequence[Panel]) -> str:
    """Say in words what the picture shows, for those who do not see it."""
    return " ".join(
        f"{panel.title}: "
        + ", ".join(f"{name} {found.middle:.2f}" for name, found in panel.values.items())
        + "."
        for panel in panels
    )
