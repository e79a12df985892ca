"""Backend state: the health of one backend of a frontend.

Three things are known of a member, and the first of them that says something is its health: that
the file names it no more, what was ordered, and what probes found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from paraglider.config.model import Backend, CheckKind
from paraglider.health.rise_fall import NOTHING_FOUND, Track, advance
from paraglider.health.service import Health


@dataclass(frozen=True, slots=True)
class BackendState:
    """Everything about one member. Each method returns what comes of it; `since_s` is when its
    health became what it is.

    `backend` is its entry of the file, None of one that is leaving. `order` is draining, disabled
    or None, and `until_s` (of the clock, as `since_s`) the deadline of a drain. `told` is what the
    last probe said. `rose_s` is when it last came up after it had been down. `error` is why its
    last probe could not be made, '' where it could, and `error_since_s` since when.
    """

    since_s: float
    backend: Backend | None = None
    track: Track = NOTHING_FOUND
    order: Health | None = None
    until_s: float | None = None
    reason: str = ""
    rose_s: float | None = None
    error: str = ""
    error_since_s: float = 0.0

    @property
    def health(self) -> Health:
        """What the member is to everybody: new connections, status, rules."""
        if self.backend is None:
            return Health.DRAINING
        return self.order or self.track.health

    @property
    def is_leaving(self) -> bool:
        """Whether the file names it no more, and only its connections are left."""
        return self.backend is None

    @property
    def is_backup(self) -> bool:
        """Whether it is there for when no other can serve."""
        return self.backend is not None and self.backend.is_backup

    @property
    def is_allowed(self) -> bool:
        """Whether it may serve as far as file and orders go."""
        return self.backend is not None and self.backend.weight > 0 and self.order is None

    @property
    def is_available(self) -> bool:
        """Whether it may serve, and nobody has found that it cannot."""
        if self.backend is None or not self.is_allowed:
            return False
        is_trusted = self.track.health is Health.UNKNOWN and self.backend.check.starts_up
        return is_trusted or self.track.health is Health.UP

    @property
    def is_probed(self) -> bool:
        """Whether probes are wanted; those of a draining one tell how it will come back."""
        is_checked = self.backend is not None and self.backend.check.kind is not CheckKind.NONE
        return is_checked and self.order is not Health.DISABLED

    def enter(self, backend: Backend, now_s: float) -> BackendState:
        """It is in the file, as `backend`. Without a check it counts as up, and stays up when it
        gets one; another check counts anew, but begins with the health that is known."""
        track, reason = self.track, self.reason
        if backend.check.kind is CheckKind.NONE:
            track, reason = Track(Health.UP), ""
        elif self.backend is None or self.backend.check != backend.check:
            track = Track(track.health)
        entered = replace(self, backend=backend, track=track, reason=reason)
        if self.backend is None or self.backend.check != backend.check:
            entered = replace(entered, error="")
        return self._dated(entered, now_s)

    def leave(self, now_s: float) -> BackendState:
        """It is not in the file any more. What was ordered is not forgotten if it comes back."""
        return self._dated(replace(self, backend=None, error=""), now_s)

    def note(self, *, is_good: bool, reason: str, now_s: float) -> BackendState:
        """A probe has ended; that of one which is not to be probed was under way too long."""
        if self.backend is None or not self.is_probed:
            return self
        track = advance(self.track, self.backend.check, is_good=is_good)
        has_risen = self.track.health is Health.DOWN and track.health is Health.UP
        rose_s = now_s if has_risen else self.rose_s
        noted = replace(self, track=track, reason=reason, rose_s=rose_s, error="")
        return self._dated(noted, now_s)

    def fail(self, error: str, now_s: float) -> BackendState:
        """A probe could not be made, which says nothing about the backend."""
        if not self.is_probed:
            return self
        since_s = self.error_since_s if self.error else now_s
        return replace(self, error=error, error_since_s=since_s)

    def drain(self, until_s: float | None, now_s: float) -> BackendState:
        """No new connections; those that it has may go on, to the deadline if there is one."""
        return self._dated(replace(self, order=Health.DRAINING, until_s=until_s), now_s)

    def disable(self, now_s: float) -> BackendState:
        """No new connections, no probes. What was known is too old when it is enabled again,
        except that it was down: better a moment late than to send it connections."""
        if self.backend is None:
            return self
        health = Health.DOWN if self.track.health is Health.DOWN else Health.UNKNOWN
        if self.backend.check.kind is CheckKind.NONE:
            health = Health.UP
        disabled = replace(self, order=Health.DISABLED, until_s=None, rose_s=None, error="")
        return self._dated(replace(disabled, track=Track(health)), now_s)

    def release(self, order: Health, now_s: float) -> BackendState:
        """`order` is taken back, if that is what holds."""
        if self.order is not order:
            return self
        return self._dated(replace(self, order=None, until_s=None), now_s)

    def _dated(self, after: BackendState, now_s: float) -> BackendState:
        return after if after.health is self.health else replace(after, since_s=now_s)
