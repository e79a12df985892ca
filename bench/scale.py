"""Scale: what a new connection, and a change, cost with many frontends and backends.

Needs root. Connections are raw SYNs from a client through a balancer to backends that drop them, in
network namespaces without a way out; setups take turns in each round, each in hosts of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from bench.command import DidNotRun
from bench.compare.build import build_program
from bench.compare.machine import describe_machine
from bench.markdown import head, row, spread, verdict
from bench.page import write_section
from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Bind, Endpoint, Family, Ports
from paraglider.health.service import Health, Member, Service, Share
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Variant
from paraglider.kernel.reconcile import Reconciler
from paraglider.kernel.removal import remove_rules
from paraglider.lab.hosts import Lab
from paraglider.rules.wanted import Planner

# What the processors' caches hold of 100,000 rules changes over many rounds.
ROUNDS = 27
STICKY_ROUNDS = 9
SYNS = 20_000
CHANGES = 10
RATIO = 1.5
PLAN_S, CHANGE_MS = 5.0, 20.0
WRITTEN_MS = {Variant.NFT: 300.0, Variant.LEGACY: 1500.0}
_ONCE = {"plan_s": "first plan", "start_s": "all into the kernel", "stop_s": "all out of it"}

_CLIENT, _BALANCER, _SINK = "client", "balancer", "sink"
_BIND, _PRIVATEIP = "198.18.0.1", "198.19.0.1"
_FIRST_BACKEND = int(ip_address("198.20.1.1"))
_FIRST_PORT = 10_000


class Shape(NamedTuple):
    """How many frontends, and how many backends each; clients come back to theirs for a while."""

    frontends: int
    backends: int
    affinity_s: int = 0

    def __str__(self) -> str:
        return f"{self.frontends:,} x {self.backends:,}"


SMALLEST = Shape(1, 1)
SHAPES = (SMALLEST, Shape(1, 3), Shape(1, 1000), Shape(1000, 1), Shape(1000, 100))
STICKY = tuple(Shape(1, backends, affinity_s=3600) for backends in (3, 10, 100, 1000))


def measure_scale() -> Iterator[str]:
    """Yield the tables, and write them into docs/performance.md."""
    if os.geteuid():
        raise DidNotRun("namespaces and rules need root")
    lines = [describe_machine(), "", *_cost_of_connections(), "", *_cost_of_affinity()]
    lines += ["", *_cost_of_changes()]
    write_section("scale", "\n".join(lines))
    yield from lines


# -- new connections -------------------------------------------------------------------------------


def _cost_of_connections() -> Iterator[str]:
    yield (
        f"A new connection, by the time that {SYNS:,} raw SYNs take: its ratio to one frontend "
        f"with one backend in the same round, {ROUNDS} rounds.\n"
    )
    yield head("iptables", "frontends x backends", "us", "least", "median", "greatest", texts=2)
    program, broken = build_program("syn"), []
    for variant in Variant:
        with _setups(SHAPES, variant) as setups:
            found = [_round(setups, program, number) for number in range(ROUNDS)]
        for shape in SHAPES:
            ratios = [took[shape] / took[SMALLEST] for took in found]
            us = sorted(took[shape] for took in found)[ROUNDS // 2]
            yield row(variant.value, shape, f"{us:.1f}", *spread(ratios, digits=2))
            if sorted(ratios)[ROUNDS // 2] > RATIO:
                broken.append(f"{variant.value}, {shape}")
    yield verdict(f"at most {RATIO:g} times the smallest (median)", broken_by=broken)


def _cost_of_affinity() -> Iterator[str]:
    yield (
        "With `affinity`: the same for clients that are new, and when each of them comes back; its "
        f"ratio to the same backends without, {STICKY_ROUNDS} rounds.\n"
    )
    yield head("iptables", "backends", "clients", "us", "least", "median", "greatest", texts=3)
    program = build_program("syn")
    plain = tuple(shape._replace(affinity_s=0) for shape in STICKY)
    for variant in Variant:
        with _setups((*plain, *STICKY), variant) as setups:
            found: dict[str, list[dict[Shape, float]]] = {"new": [], "known": []}
            for number in range(1, STICKY_ROUNDS + 1):  # each round has clients of its own
                for rounds in found.values():
                    rounds.append(_round(setups, program, number))
        for shape in STICKY:
            for clients, rounds in found.items():
                ratios = [took[shape] / took[shape._replace(affinity_s=0)] for took in rounds]
                us = sorted(took[shape] for took in rounds)[STICKY_ROUNDS // 2]
                cells = (variant.value, f"{shape.backends:,}", clients, f"{us:.1f}")
                yield row(*cells, *spread(ratios, digits=2))


@contextmanager
def _setups(shapes: Sequence[Shape], variant: Variant) -> Iterator[dict[Shape, Lab]]:
    with ExitStack() as stack:
        setups = {shape: stack.enter_context(Lab()) for shape in shapes}
        for shape, lab in setups.items():
            _set_up(lab, shape, variant)
        yield setups


def _set_up(lab: Lab, shape: Shape, variant: Variant) -> None:
    for host in (_CLIENT, _BALANCER, _SINK):
        lab.add_host(host)
    lab.add_network("outside", {_CLIENT: "198.18.0.2/16", _BALANCER: f"{_BIND}/16"})
    lab.add_network("inside", {_BALANCER: f"{_PRIVATEIP}/16", _SINK: "198.19.0.2/16"})
    lab.set_sysctl(_BALANCER, "net.ipv4.ip_forward", "1")
    for name in ("all", "default", "outside"):
        lab.set_sysctl(_BALANCER, f"net.ipv4.conf.{name}.rp_filter", "0")
    # Nothing answers there: what comes for a backend is for nobody, and is dropped. By a route, as
    # the kernel has room for 1,024 neighbours in all namespaces together.
    lab.add_route(_BALANCER, "198.20.0.0/16", "198.19.0.2")
    argv = [sys.executable, "-m", "bench.scale", "apply", variant.value, *map(str, shape)]
    lab.run(_BALANCER, argv, timeout_s=300)


def _round(setups: dict[Shape, Lab], program: str, number: int) -> dict[Shape, float]:
    order = list(setups)
    turned = order[number % len(order) :] + order[: number % len(order)]
    took = {}
    for shape in turned[::-1] if number % 2 else turned:
        lab = setups[shape]
        where = [_BIND, str(_FIRST_PORT), str(shape.frontends)]
        argv = [program, str(SYNS), str(number), "198.0.0.0", *where]
        took_ns = int(lab.run(_CLIENT, argv, timeout_s=120).stdout)
        took[shape] = took_ns / SYNS / 1000
        passed = int(lab.run(_BALANCER, ["conntrack", "-C"]).stdout)
        if passed < SYNS:
            raise DidNotRun(f"{shape}: {passed} of {SYNS} connections were tracked")
        lab.run(_BALANCER, ["conntrack", "-F"])
    return took


# -- changes ---------------------------------------------------------------------------------------


def _cost_of_changes() -> Iterator[str]:
    shape = SHAPES[-1]
    yield (
        f"One backend of {shape} goes down, {CHANGES} times (ms); and what comes before and after "
        "that: the first plan, all rules into the kernel, and out of it.\n"
    )
    yield head("iptables", "what", "least", "median", "greatest", texts=2)
    broken = []
    for variant in Variant:
        with Lab() as lab:
            lab.add_host(_BALANCER)
            lab.set_sysctl(_BALANCER, "net.ipv4.ip_forward", "1")
            argv = [sys.executable, "-m", "bench.scale", "change", variant.value, *map(str, shape)]
            found = json.loads(lab.run(_BALANCER, argv, timeout_s=300).stdout)
        plan_s, planned, written = found["plan_s"], found["planned_ms"], found["written_ms"]
        for key, reason in _ONCE.items():
            yield row(variant.value, f"{reason}, s", *spread([found[key]], digits=2))
        yield row(variant.value, "plan of a change", *spread(planned, digits=1))
        yield row(variant.value, "from decision to kernel", *spread(written, digits=0))
        if plan_s > PLAN_S or max(planned) > CHANGE_MS or max(written) > WRITTEN_MS[variant]:
            broken.append(variant.value)
    limits = f"{PLAN_S:g} s, {CHANGE_MS:g} ms, and {WRITTEN_MS[Variant.NFT]:g} ms (nft) or "
    limits += f"{WRITTEN_MS[Variant.LEGACY]:g} ms (legacy)"
    yield verdict(f"at most {limits}", broken_by=broken)


def services_of(shape: Shape) -> list[Service]:
    """Return frontends on one address, each with its own port of the same hosts."""
    privateip = ip_address(_PRIVATEIP)
    source = Source(SourceKind.ADDRESS, ((privateip, privateip),))
    services = []
    for number in range(shape.frontends):
        port = _FIRST_PORT + number
        bind = Bind(Family.IPV4, Ports(port, port), address=ip_address(_BIND))
        hosts = (ip_address(_FIRST_BACKEND + n) for n in range(shape.backends))
        backends = [Endpoint(host, port) for host in hosts]
        members, shares = tuple(map(Member, backends)), tuple(map(Share, backends))
        service = Service(f"f{number}", (bind,), source, members, shares)
        services.append(replace(service, affinity_s=float(shape.affinity_s)))
    return services


def _without_first(service: Service) -> Service:
    down = Member(service.members[0].backend, Health.DOWN)
    return replace(service, members=(down, *service.members[1:]), serving=service.serving[1:])


def _inside(what: str, variant: Variant, shape: Shape) -> dict[str, object]:
    """Do in the balancer what cannot be done from outside of it."""
    services = services_of(shape)
    planner = Planner(randomize_start=variant is Variant.LEGACY)
    reconciler = Reconciler(host=Host(), report=lambda _: None)
    began_s = time.monotonic()
    wanted = planner.plan(services)
    plan_s = time.monotonic() - began_s
    start_s = _took_s(lambda: reconciler.take_over(wanted, variant))
    planned, written = [], []
    for turn in range(CHANGES if what == "change" else 0):
        while (next_s := reconciler.next_s()) is not None and next_s <= time.monotonic():
            reconciler.look()
        services[turn] = _without_first(services[turn])
        began_s = time.monotonic()
        wanted = planner.plan(services)
        planned.append(1000 * (time.monotonic() - began_s))
        reconciler.update(wanted)
        written.append(1000 * (time.monotonic() - began_s))
    reconciler.close()
    stop_s = 0.0
    if what == "change":
        stop_s = _took_s(lambda: remove_rules(host=Host(), report=lambda _: None))
    once = {"plan_s": plan_s, "start_s": start_s, "stop_s": stop_s}
    return {**once, "planned_ms": planned, "written_ms": written}


def _took_s(do: Callable[[], object]) -> float:
    began_s = time.monotonic()
    do()
    return time.monotonic() - began_s


if __name__ == "__main__":
    _what, _variant, *_shape = sys.argv[1:]
    print(json.dumps(_inside(_what, Variant(_variant), Shape(*map(int, _shape)))))
