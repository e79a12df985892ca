"""Counters: what happened since the agent started, as far as status and metrics tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counts, and last words. `started_s` is of the clock, `reloaded_s` since the epoch.

    `config_missing` is why the file cannot be read again, '' where it can; `reload_error` is why
    the file that is there now is not in force, '' where it is; `repairs` counts what others changed
    and was put back; `trouble` is what keeps the rules from being as wanted now, and
    `sync_failures` how often something did.
    """

    started_s: float
    config: str = ""
    reloads: int = 0
    reloaded_s: float = 0.0
    config_missing: str = ""
    reload_error: str = ""
    repairs: int = 0
    last_repair: str = ""
    sync_failures: int = 0
    trouble: str = ""
