"""Properties of health that hold whatever probes find, people order and files say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paraglider.config.model import Backend, Check, Config, Frontend, NoBackend, Quorum
from paraglider.health.health_state import HealthState
from paraglider.health.rise_fall import Track, advance
from paraglider.health.saved_state import SavedState
from paraglider.health.service import FULL, Health, Pair, Service
from paraglider.health.slow_start import find_next_step_s, find_percent
from tests.unit.config_files import frontend_at
from tests.unit.health_states import (
    BIND,
    NO_CHECK,
    OTHER_BIND,
    PRIVATEIP,
    STARTS_DOWN,
    endpoint_of,
    key_of,
)

_OUT = (Health.DRAINING, Health.DISABLED)
_times_s = st.floats(0.0, 1e7)
_checks = st.builds(Check, rise=st.integers(1, 4), fall=st.integers(1, 4))


# -- rise and fall, slow start --


def naive_flips(results: list[bool], check: Check) -> list[tuple[int, Health]]:
    """Return after how many results which health began, by looking at all of them each time."""
    flips: list[tuple[int, Health]] = []
    for count in range(1, len(results) + 1):
        since, health = flips[-1] if flips else (0, Health.UNKNOWN)
        for good, other, needed in (
            (True, Health.UP, check.rise),
            (False, Health.DOWN, check.fall),
        ):
            last = results[since:count][-needed:]
            if other is not health and last == [good] * needed:
                flips.append((count, other))
    return flips


@given(st.lists(st.booleans(), max_size=40), _checks)
def test_a_health_begins_with_as_many_equal_results_as_asked_for(
    results: list[bool], check: Check
) -> None:
    """Not one earlier, not one later, and none of them counted twice."""
    tracks = [Track()]
    for is_good in results:
        tracks.append(advance(tracks[-1], check, is_good=is_good))
    steps = enumerate(pairwise(tracks), start=1)
    flips = [(n, after.health) for n, (was, after) in steps if was.health is not after.health]
    assert flips == naive_flips(results, check)


@given(_times_s, st.floats(0.0, 3600.0), st.floats(0.0, 4000.0), st.floats(0.0, 4000.0))
def test_a_share_never_shrinks_by_time(
    began_s: float, slow_start_s: float, one_s: float, other_s: float
) -> None:
    """From 1 up to an equal share."""
    early_s, late_s = sorted((began_s + one_s, began_s + other_s))
    early, late = (find_percent(began_s, slow_start_s, now_s) for now_s in (early_s, late_s))
    assert 1 <= early <= late <= FULL


@given(_times_s, st.floats(0.0, 3600.0))
def test_each_step_is_told_and_is_one(began_s: float, slow_start_s: float) -> None:
    """Whoever wakes up at the time that was told finds more, and the last step is to all."""
    percents = [find_percent(began_s, slow_start_s, began_s)]
    now_s = began_s
    while (next_s := find_next_step_s(began_s, slow_start_s, now_s)) is not None:
        assert next_s > now_s
        now_s = next_s
        percents.append(find_percent(began_s, slow_start_s, now_s))
    assert percents == sorted(set(percents))
    assert percents[-1] == FULL
    assert len(percents) <= 21


# -- the board --


@st.composite
def frontends(draw: st.DrawFn) -> Frontend:
    """A frontend at one of two binds, with up to four backends."""
    bind, name = draw(st.sampled_from([(BIND, "web"), (OTHER_BIND, "shop"), (BIND, "www")]))
    checks = st.sampled_from([Check(rise=1, fall=2), Check(rise=3, fall=1), STARTS_DOWN, NO_CHECK])
    return frontend_at(
        name,
        bind.endpoint,
        PRIVATEIP,
        tuple(
            Backend(endpoint_of(x).address, 8080, draw(st.booleans()), draw(checks))
            for x in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
        ),
        no_backend=draw(st.sampled_from(NoBackend)),
        quorum=draw(st.sampled_from([Quorum(), Quorum(), Quorum(2), Quorum(2, 1)])),
        slow_start_s=draw(st.sampled_from([0.0, 0.5, 7.0, 60.0])),
    )


_configs = st.lists(frontends(), min_size=1, max_size=2, unique_by=lambda f: f.bind).map(
    lambda found: Config("test", tuple(found))
)
_keys = st.builds(key_of, st.sampled_from("abcd"), st.sampled_from([BIND, OTHER_BIND]))
_key_sets = st.frozensets(_keys, max_size=3)
_untils = st.none() | st.integers(0, 99)
_memories = st.builds(
    SavedState,
    down=_key_sets,
    draining=st.dictionaries(_keys, _untils, max_size=2),
    disabled=_key_sets,
    serving=_key_sets,
)


class BoardMachine(RuleBasedStateMachine):
    """Anything may happen to a board, in any order."""

    state: HealthState
    config: Config

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.results: dict[Pair, list[bool]] = {}  # those that may still count

    @initialize(saved_state=_memories, config=_configs)
    def start(self, saved_state: SavedState, config: Config) -> None:
        self.state = HealthState(saved_state)
        self.config = config
        assert self.state.configure(config, {}, self.now_s) == []

    def health_of(self, key: Pair) -> Health | None:
        """Return what probes have found, None of strangers."""
        for view in self.state.views():
            if view.bind == key[0] and key[1] in view.members:
                return view.members[key[1]].track.health
        return None

    def checks(self) -> dict[Pair, Check]:
        return {key: backend.check for key, backend in self.state.probed()}

    @rule(config=_configs)
    def configure(self, config: Config) -> None:
        before = self.checks()
        self.state.configure(config, {}, self.now_s)
        self.config = config
        after = self.checks()
        kept = {key for key in before if after.get(key) == before[key]}
        self.results = {key: found for key, found in self.results.items() if key in kept}

    @rule()
    def configure_the_same(self) -> None:
        before = self.state.views()
        assert self.state.configure(self.config, {}, self.now_s + 1) == []
        assert self.state.views() == before

    @rule(key=_keys, results=st.lists(st.booleans(), min_size=1, max_size=4))
    def probe(self, key: Pair, results: list[bool]) -> None:
        for is_good in results:
            health, check = self.health_of(key), self.checks().get(key)
            change = self.state.note(key, is_good=is_good, reason="refused", now_s=self.now_s)
            if check is None or health is None:
                assert change is None
                continue
            found = self.results.setdefault(key, [])
            found.append(is_good)
            needed, other = (check.rise, Health.UP) if is_good else (check.fall, Health.DOWN)
            is_due = health is not other and found[-needed:] == [is_good] * needed
            reason = (change.before, change.after) if change else None
            assert reason == ((health, other) if is_due else None)
            if is_due:
                found.clear()

    @rule(key=_keys, until_s=_untils, order=st.sampled_from(["drain", "undrain", "enable"]))
    def order(self, key: Pair, until_s: int | None, order: str) -> None:
        if order == "drain":
            self.state.drain(key, until_s, self.now_s)
        elif order == "undrain":
            self.state.undrain(key, self.now_s)
        else:
            self.state.enable(key, self.now_s)

    @rule(key=_keys)
    def disable(self, key: Pair) -> None:
        if self.state.disable(key, self.now_s):
            self.results.pop(key, None)

    @rule(key=_keys)
    def forget(self, key: Pair) -> None:
        was_leaving = key in self.state.leaving()
        known = self.health_of(key) is not None
        self.state.forget(key)
        assert (self.health_of(key) is not None) == (known and not was_leaving)

    @rule(seconds=st.sampled_from([0.3, 1.0, 4.0, 30.0]))
    def let_time_pass(self, seconds: float) -> None:
        before = self.state.services(self.now_s)
        next_s = self.state.next_change_s(self.now_s)
        after = self.state.services(self.now_s + seconds)
        if next_s is None or self.now_s + seconds < next_s:
            assert after == before
        for was, service in zip(before, after, strict=True):
            self.assert_growing(was, service)
        self.now_s += seconds

    def assert_growing(self, was: Service, service: Service) -> None:
        """Where somebody has a full share by itself, nobody else's shrinks."""
        assert [s.backend for s in was.serving] == [s.backend for s in service.serving]
        view = next(view for view in self.state.views() if view.bind == was.bind)
        if any(view.members[share.backend].rose_s is None for share in was.serving):
            pairs = zip(was.serving, service.serving, strict=True)
            assert all(early.percent <= late.percent for early, late in pairs)

    @precondition(lambda self: self.state.next_change_s(self.now_s) is not None)
    @rule()
    def wake_up(self) -> None:
        next_s = self.state.next_change_s(self.now_s)
        assert next_s is not None
        assert next_s > self.now_s
        self.now_s = next_s

    @invariant()
    def only_members_that_may_serve_do(self) -> None:
        for service in self.state.services(self.now_s):
            health = {member.backend: member.health for member in service.members}
            assert all(health[share.backend] not in _OUT for share in service.serving)
            assert not (service.is_leaving and service.serving)

    @invariant()
    def the_order_is_that_of_the_file(self) -> None:
        services = self.state.services(self.now_s)
        count = len(self.config.frontends)
        assert [s.bind for s in services[:count]] == [f.bind for f in self.config.frontends]
        assert all(service.is_leaving for service in services[count:])
        for frontend, service in zip(self.config.frontends, services, strict=False):
            backends = [backend.endpoint for backend in frontend.backends]
            members = [member.backend for member in service.members]
            assert members[: len(backends)] == backends
            serving = {share.backend for share in service.serving}
            assert [s.backend for s in service.serving] == [m for m in members if m in serving]

    @invariant()
    def somebody_has_a_full_share(self) -> None:
        for service in self.state.services(self.now_s):
            percents = [share.percent for share in service.serving]
            assert not percents or (max(percents) == FULL and min(percents) >= 1)

    @invariant()
    def one_available_primary_is_enough_for_a_quorum_of_one(self) -> None:
        for view, service in zip(self.state.views(), self.state.services(self.now_s), strict=True):
            if view.frontend is None or view.frontend.quorum != Quorum():
                continue
            able = [
                backend
                for backend, state in view.members.items()
                if state.is_available and not state.is_backup
            ]
            if able:
                assert [share.backend for share in service.serving] == able

    @invariant()
    def somebody_serves_where_all_are_to(self) -> None:
        for view, service in zip(self.state.views(), self.state.services(self.now_s), strict=True):
            if view.frontend and view.frontend.no_backend is NoBackend.SERVE_ALL:
                allowed = any(member.health not in _OUT for member in service.members)
                assert bool(service.serving) is allowed


TestBoard = BoardMachine.TestCase
TestBoard.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
