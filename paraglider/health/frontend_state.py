"""Frontend state: the backends of one frontend, and whether it has a quorum."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from paraglider.config.clients import Source
from paraglider.config.model import Backend, Bind, Endpoint, Frontend, ReturnPath, first_bind
from paraglider.health.backend_state import BackendState
from paraglider.health.service import Member, Service, Share, find_home
from paraglider.health.serving import choose_serving, find_next_share_s, has_quorum, share_out


@dataclass(slots=True, kw_only=True)
class FrontendState:
    """How it stands with the frontend at `binds`, and with each of its members.

    `frontend` is what the file says, None while it is leaving; `binds`, `source` and
    `is_policy_routed` then are the last that it had, as far as they are known. `standings` are in
    the order of the file, those that are leaving last.
    Between the two limits of its quorum a frontend stays as it was, `is_quorate` at first.
    """

    binds: tuple[Bind, ...]
    source: Source
    frontend: Frontend | None = None
    backend_states: dict[Endpoint, BackendState] = field(default_factory=dict)
    is_quorate: bool = True
    is_policy_routed: bool = True
    # How many primaries are available, and how many may serve as far as file and orders go.
    _live: int = field(default=0, init=False, repr=False, compare=False)
    _allowed: int = field(default=0, init=False, repr=False, compare=False)
    # What `service` returned last; None once that may be another.
    _service: Service | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._count()

    @property
    def name(self) -> str:
        """The frontend's name; the bind for one that is leaving, whose name another may have."""
        return str(first_bind(self.binds)) if self.frontend is None else self.frontend.name

    def enter(self, frontend: Frontend, backends: Mapping[Endpoint, Backend], now_s: float) -> None:
        """The file has `frontend` here with `backends`; other members leave."""
        self.frontend, self.binds, self.source = frontend, frontend.binds, frontend.source
        self.is_policy_routed = frontend.return_path is ReturnPath.POLICY
        old = self.backend_states
        self.backend_states = {
            endpoint: old.get(endpoint, BackendState(now_s)).enter(backend, now_s)
            for endpoint, backend in backends.items()
        }
        for endpoint, backend_state in old.items():
            self.backend_states.setdefault(endpoint, backend_state.leave(now_s))
        self._service = None
        self._count()
        self._settle_quorum()

    def part(self, kept: Collection[Bind], now_s: float) -> dict[Bind, FrontendState]:
        """Return, for each of its binds that the file has not `kept`, what is left there: all
        members leave. Each by itself, as the rules will remember them."""
        gone = [bind for bind in self.binds if bind not in kept and self.backend_states]
        return {bind: self._left_at(bind, now_s) for bind in gone}

    def _left_at(self, bind: Bind, now_s: float) -> FrontendState:
        backend_states = {
            e: backend_state.leave(now_s) for e, backend_state in self.backend_states.items()
        }
        return replace(self, binds=(bind,), frontend=None, backend_states=backend_states)

    def put(self, backend: Endpoint, backend_state: BackendState) -> None:
        """It stands like this with `backend` from now on."""
        was, self.backend_states[backend] = self.backend_states[backend], backend_state
        if was.health is not backend_state.health:  # most probes find what was known
            self._add(was, -1)
            self._add(backend_state, 1)
            self._settle_quorum()
        if _outcome(was) != _outcome(backend_state):
            self._service = None

    def drop(self, backend: Endpoint) -> None:
        """Forget `backend`."""
        self._add(self.backend_states.pop(backend), -1)
        self._service = None

    def service(self, now_s: float) -> Service:
        """Return what the frontend is to do: the same object as last time if nothing changed, so
        that callers need not compare it."""
        last = self._service
        if last is None or (self.frontend is not None and self.frontend.slow_start_s):
            found = self._find_service(now_s)
            last = self._service = last if found == last else found
        return last

    def _find_service(self, now_s: float) -> Service:
        members = tuple(
            Member(backend, backend_state.health, backend_state.until_s, backend_state.is_leaving)
            for backend, backend_state in self.backend_states.items()
        )
        shares: tuple[Share, ...] = ()
        if self.frontend is not None:
            slow_start_s = self.frontend.slow_start_s
            shares = share_out(
                self._choose(self.frontend), self.backend_states, slow_start_s, now_s
            )
        service = Service(
            self.name,
            self.binds,
            self.source,
            members,
            shares,
            is_policy_routed=self.is_policy_routed,
        )
        if self.frontend is None:
            return replace(service, is_leaving=True)
        return replace(
            service,
            balance=self.frontend.balance,
            hash_key=self.frontend.hash_key,
            home=find_home(self.frontend, self._backends()),
            access=self.frontend.access,
            affinity_s=self.frontend.affinity_s,
        )

    def _backends(self) -> dict[Endpoint, Backend]:
        backend_states = self.backend_states.items()
        return {
            e: backend_state.backend
            for e, backend_state in backend_states
            if backend_state.backend is not None
        }

    def next_change_s(self, now_s: float) -> float | None:
        """Return when `service` may differ though nothing has happened; None for never."""
        if self.frontend is None or not self.frontend.slow_start_s:
            return None
        slow_start_s = self.frontend.slow_start_s
        return find_next_share_s(
            self._choose(self.frontend), self.backend_states, slow_start_s, now_s
        )

    def _choose(self, frontend: Frontend) -> Sequence[Endpoint]:
        return choose_serving(frontend, self.backend_states, is_quorate=self.is_quorate)

    def _count(self) -> None:
        self._live = self._allowed = 0
        for backend_state in self.backend_states.values():
            self._add(backend_state, 1)

    def _add(self, backend_state: BackendState, number: int) -> None:
        if not backend_state.is_backup:
            self._live += number * backend_state.is_available
            self._allowed += number * backend_state.is_allowed

    def _settle_quorum(self) -> None:
        if self.frontend is not None:
            self.is_quorate = has_quorum(
                self.frontend.quorum, self._live, self._allowed, had_quorum=self.is_quorate
            )


def _outcome(backend_state: BackendState) -> tuple[object, ...]:
    """Return all that `service` looks at."""
    return (
        backend_state.health,
        backend_state.is_available,
        backend_state.until_s,
        backend_state.rose_s,
        backend_state.is_leaving,
    )
