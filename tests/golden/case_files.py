"""The golden cases: a configuration beside the rules that it must give.

``NAME.yaml`` is what a user writes. In its first lines ``# down: ADDRESS:PORT ...``, `draining` or
`disabled` take backends out of service, ``# slow: ADDRESS:PORT=PERCENT ...`` gives some a smaller
share, and ``# local: ADDRESS ...`` puts backends on the host itself. ``NAME.rules`` is what
iptables-restore is given for it; `make golden` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from paraglider.config.model import Address, Config, Family
from paraglider.config.parse import parse_config
from paraglider.health.service import Health, Member, Service, standing_services
from paraglider.rules.plan import plan_rulesets
from paraglider.rules.ruleset import Ruleset
from paraglider.rules.state import State
from paraglider.rules.wanted import plan_states, render_states

_FOLDER = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class GoldenCase:
    """One pair of files."""

    name: str
    config: Config
    out: dict[str, Health]
    slow: dict[str, int]
    local: frozenset[Address]
    rules_path: Path

    def services(self) -> tuple[Service, ...]:
        """Return what each frontend is to do."""
        return tuple(self._service(s) for s in standing_services(self.config, {}))

    def _service(self, service: Service) -> Service:
        def member(m: Member) -> Member:
            health = self.out.get(str(m.backend), m.health)
            return replace(m, health=health, until_s=_until_s(health))

        serving = (s for s in service.serving if str(s.backend) not in self.out)
        return replace(
            service,
            members=tuple(map(member, service.members)),
            serving=tuple(
                replace(s, percent=self.slow.get(str(s.backend), s.percent)) for s in serving
            ),
        )

    def rulesets(self) -> tuple[Ruleset, ...]:
        """Return what the case plans."""
        return plan_rulesets(self.services(), local=self.local)

    def states(self) -> Mapping[Family, State]:
        """Return the same as the kernel prints it."""
        return plan_states(self.services(), local=self.local)

    def rendered(self) -> str:
        """Return the text that is compared with ``NAME.rules``."""
        return "".join(f"{header}\n{text}" for header, text in render_states(self.states()))


def golden_cases() -> list[GoldenCase]:
    """Return all cases, by name."""
    return [_read(path) for path in sorted(_FOLDER.glob("*.yaml"))]


def _until_s(health: Health) -> int | None:
    return 1_800_000_000 if health is Health.DRAINING else None


def _read(path: Path) -> GoldenCase:
    text = path.read_text()
    out = {
        backend: health
        for health in (Health.DOWN, Health.DRAINING, Health.DISABLED)
        for line in re.findall(rf"^# {health}: (.*)$", text, re.MULTILINE)
        for backend in line.split()
    }
    slow = {
        backend: int(percent)
        for line in re.findall(r"^# slow: (.*)$", text, re.MULTILINE)
        for backend, percent in (item.split("=") for item in line.split())
    }
    local = frozenset(
        ip_address(address)
        for line in re.findall(r"^# local: (.*)$", text, re.MULTILINE)
        for address in line.split()
    )
    config = parse_config(text.encode(), source=path.name)
    return GoldenCase(path.stem, config, out, slow, local, path.with_suffix(".rules"))
