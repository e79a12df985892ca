"""The golden cases: a configuration beside the rules that it must give.

``NAME.yaml`` is what a user writes; a first line ``# down: ADDRESS:PORT ...`` takes backends out of
service. ``NAME.rules`` is what iptables-restore is given for it; `make golden` writes them anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paraglider.config.model import Config
from paraglider.config.parse import parse_config
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.restore import render_rulesets
from paraglider.rules.ruleset import Ruleset

_FOLDER = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class GoldenCase:
    """One pair of files."""

    name: str
    config: Config
    down: frozenset[str]
    rules_path: Path

    def rulesets(self) -> tuple[Ruleset, ...]:
        """Return what the case plans."""
        return plan_rulesets(self.config, is_serving=lambda _, b: str(b) not in self.down)

    def rendered(self) -> str:
        """Return the text that is compared with ``NAME.rules``."""
        return "".join(f"{header}\n{text}" for header, text in render_rulesets(self.rulesets()))


def golden_cases() -> list[GoldenCase]:
    """Return all cases, by name."""
    return [_read(path) for path in sorted(_FOLDER.glob("*.yaml"))]


def _read(path: Path) -> GoldenCase:
    text = path.read_text()
    first = text.split("\n", 1)[0]
    down = first.removeprefix("# down:").split() if first.startswith("# down:") else []
    config = parse_config(text.encode(), source=path.name)
    return GoldenCase(path.stem, config, frozenset(down), path.with_suffix(".rules"))
