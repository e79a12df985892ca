"""What is known of one host name: its addresses, and whether it has an answer now.

A name server may give a part of its records each time, so an address that is missing from an answer
is held for a while. A name without an answer keeps all of its addresses: a name server that is down
takes no backend away. Pure: `now_s` (seconds of a monotonic clock) is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from paraglider.config.model import Address
from paraglider.health.resolver import MAX_ADDRESSES


@dataclass(frozen=True, slots=True)
class NameState:
    """One name. Each method returns what comes of it.

    `present` are the addresses of the last answer that had any, and `missing_s` those before that
    are held, each with the time of the first answer without it. `error` is why there is no answer
    now, '' while there is, and `error_since_s` since when.
    """

    present: tuple[Address, ...] = ()
    missing_s: Mapping[Address, float] = field(default_factory=dict)
    error: str = ""
    error_since_s: float = 0.0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All that it stands for, in ascending order."""
        return tuple(sorted({*self.present, *self.missing_s}, key=int))

    def answer(self, found: tuple[Address, ...], now_s: float) -> NameState:
        """An answer has these addresses, one at least. The time without an answer does not count
        for those that are missing: nobody could have found them."""
        outage_s = now_s - self.error_since_s if self.error else 0.0
        missing_s = {address: since_s + outage_s for address, since_s in self.missing_s.items()}
        missing_s |= dict.fromkeys(self.present, now_s)
        for address in found:
            missing_s.pop(address, None)
        # The newest ones, where answers without end would make too many.
        newest = sorted(missing_s, key=lambda it: (-missing_s[it], int(it)))
        room = max(0, MAX_ADDRESSES - len(found))
        return NameState(found, {address: missing_s[address] for address in newest[:room]})

    def fail(self, why: str, now_s: float) -> NameState:
        """A lookup has failed, or found nothing of use."""
        return replace(self, error=why, error_since_s=self.error_since_s if self.error else now_s)

    def expire(self, hold_s: float, now_s: float) -> NameState:
        """Without the addresses that have been missing for `hold_s`."""
        if self.error or not self.missing_s:
            return self
        held = {it: since_s for it, since_s in self.missing_s.items() if since_s + hold_s > now_s}
        return self if len(held) == len(self.missing_s) else replace(self, missing_s=held)

    def next_s(self, hold_s: float) -> float | None:
        """Return when an address expires next; None for never."""
        if self.error or not self.missing_s:
            return None
        return min(self.missing_s.values()) + hold_s
