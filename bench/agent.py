"""The agent: how soon a decision is in the kernel, what reloads and flushes cost, what rest costs.

In network namespaces without a way out, as root. `python -m bench.agent VARIANT` is the part that
runs on the balancer: it measures decisions alone, and prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from bench.command import DidNotRun
from bench.markdown import head, row, spread, verdict
from bench.process import read_cpu_s
from paraglider.config.clients import Source, SourceKind
from paraglider.config.model import Bind, Endpoint, Family, Ports
from paraglider.health.service import Health, Member, Service, Share
from paraglider.kernel.host import Host
from paraglider.kernel.iptables import Variant
from paraglider.kernel.reconcile import Reconciler
from paraglider.lab.actors import start_backend
from paraglider.lab.hosts import Lab
from paraglider.rules.wanted import Planner
from tests.netns.harness import BACKENDS, BALANCER, IPV4, Agent, Topology, build_topology

FRONTENDS = BACKENDS_EACH = 10
DECISIONS = 30
DECISION_MS = 100.0
CONNECTIONS = 1000
RELOADS = 50
ROUNDS = 5
REST_S = 20.0
REST_PERCENT = 0.5
FOREIGN_RULES = 20_000

_SETTLED_WITHIN_S = 30.0
_POLL_S = 0.1
_FLUSHES = ("iptables -t nat -F", "nft delete table ip nat", "nft flush ruleset")


def measure_agent() -> Iterator[str]:
    """Yield the tables."""
    if os.geteuid():
        raise DidNotRun("namespaces and rules need root")
    yield "A backend goes down: from decision to kernel, 10 frontends of 10 backends (ms)\n"
    yield from _decisions()
    yield f"\n{RELOADS} reloads with other backends, {CONNECTIONS} connections held, new made\n"
    yield from _reloads()
    yield f"\nOthers flush, {CONNECTIONS} connections held: how many break ({ROUNDS} rounds)\n"
    yield from _flushes()
    yield "\nAt rest, 10 backends checked every 2 s: agent and prober, percent of a core\n"
    yield from _rest()


def _decisions() -> Iterator[str]:
    yield head("variant", "min", "median", "max", texts=1)
    broken = []
    for variant in Variant:
        with Lab() as lab:
            build_topology(lab, addresses=IPV4, variant=variant)
            argv = [sys.executable, "-m", "bench.agent", variant.value]
            took_ms: list[float] = json.loads(lab.run(BALANCER, argv).stdout)
        yield row(variant.value, *spread(took_ms, digits=0))
        if max(took_ms) > DECISION_MS:
            broken.append(variant.value)
    yield verdict(f"at most {DECISION_MS:g} ms", broken_by=broken)


def decide(variant: Variant) -> list[float]:
    """Take backends down and up, one at a time; return how long each took to be in the kernel."""
    services = [_service(number) for number in range(FRONTENDS)]
    reconciler = Reconciler(host=Host(), report=lambda _: None)
    planner = Planner(randomize_start=variant is Variant.LEGACY)
    reconciler.take_over(planner.plan(services), variant)
    took_ms = []
    for turn in range(DECISIONS):
        # As the agent does between decisions: it looks when that is due, and not before.
        time.sleep(max(0.0, (reconciler.next_s() or 0.0) - time.monotonic()))
        reconciler.look()
        at = turn % FRONTENDS
        changed = [*services]
        if turn % 2 == 0:
            changed[at] = _without(services[at], turn % BACKENDS_EACH)
        began_s = time.monotonic()
        reconciler.update(planner.plan(changed))
        took_ms.append(1000 * (time.monotonic() - began_s))
    reconciler.close()
    return took_ms


def _service(number: int) -> Service:
    backends = [
        Endpoint(ip_address(f"172.19.{number + 1}.{index + 1}"), 80)
        for index in range(BACKENDS_EACH)
    ]
    ports = Ports(8000 + number, 8000 + number)
    bind = Bind(Family.IPV4, ports, address=ip_address(IPV4.bind))
    members, serving = tuple(map(Member, backends)), tuple(map(Share, backends))
    privateip = ip_address(IPV4.privateip)
    source = Source(SourceKind.ADDRESS, ((privateip, privateip),))
    return Service(f"f{number}", (bind,), source, members, serving)


def _without(service: Service, index: int) -> Service:
    gone = service.members[index].backend
    return replace(
        service,
        members=tuple(
            Member(gone, Health.DOWN) if m.backend == gone else m for m in service.members
        ),
        serving=tuple(share for share in service.serving if share.backend != gone),
    )


def _reloads() -> Iterator[str]:
    yield head("variant", "held, broken", "new, failed", "new, made", texts=1)
    broken = []
    for variant in Variant:
        with Lab() as lab:
            topology = build_topology(lab, addresses=IPV4, variant=variant)
            agent = topology.start_agent()
            failed = made = 0
            with topology.hold(CONNECTIONS, timeout_s=30) as held:
                for turn in range(RELOADS):
                    backends = IPV4.backend_endpoints[: 2 + turn % 2]
                    agent.write(IPV4.make_config(backends))
                    agent.order("reload")
                    results = topology.connect(20)
                    made, failed = made + 20, failed + len(results.failures)
                lost = held.settle().broken
        yield row(variant.value, lost, failed, made)
        if lost or failed:
            broken.append(variant.value)
    yield verdict("none broken, none failed", broken_by=broken)


def _flushes() -> Iterator[str]:
    yield head("what", "variant", "min", "median", "max", texts=2)
    for what in _FLUSHES:
        for variant in Variant:
            if what.startswith("nft ") and variant is Variant.LEGACY:
                continue
            losses = [float(_lose(what, variant)) for _ in range(ROUNDS)]
            yield row(f"`{what}`", variant.value, *spread(losses, digits=0))


def _lose(what: str, variant: Variant) -> int:
    with Lab() as lab:
        topology = build_topology(lab, addresses=IPV4, variant=variant)
        agent = topology.start_agent()
        with topology.hold(CONNECTIONS, timeout_s=30) as held:
            held.settle()
            program, *words = what.split()
            if program == "iptables":
                topology.balancer.iptables(*words)
            else:
                topology.balancer.run(program, *words)
            agent.until("after a change by")
            return held.settle().broken


def _rest() -> Iterator[str]:
    yield head("variant", "rules of others", "agent", "prober", "together", texts=1)
    broken = []
    for variant in Variant:
        for rules in (0, FOREIGN_RULES):
            shares = _rest_of(variant, rules)
            yield row(variant.value, rules, *(f"{s:.2f}" for s in (*shares, sum(shares))))
            if sum(shares) > REST_PERCENT:
                broken.append(f"{variant.value} with {rules} rules")
    yield verdict(f"under {REST_PERCENT} % of a core", broken_by=broken)


def _rest_of(variant: Variant, rules: int) -> list[float]:
    with Lab() as lab:
        topology = build_topology(lab, addresses=IPV4, variant=variant)
        if rules:
            lines = (f"-A OTHERS -s 10.{n >> 8}.{n & 255}.1 -j RETURN\n" for n in range(rules))
            topology.balancer.restore(f"*filter\n:OTHERS - [0:0]\n{''.join(lines)}COMMIT\n")
        agent = topology.start_agent(config=IPV4.make_config(_ten(topology)))
        _wait_until_all_are_up(agent)
        processes = [agent.running.pid, agent.prober()]
        before = [read_cpu_s(pid) for pid in processes]
        time.sleep(REST_S)  # what it does meanwhile is what is measured
        return [
            100 * (read_cpu_s(pid) - b) / REST_S for pid, b in zip(processes, before, strict=True)
        ]


def _ten(topology: Topology) -> list[str]:
    backends = list(IPV4.backend_endpoints)
    for number in range(7):
        at = number % 3
        endpoint = IPV4.endpoint(IPV4.backends[at], 6000 + number)
        start_backend(topology.lab, BACKENDS[at], listen=endpoint)
        backends.append(endpoint)
    return backends


def _wait_until_all_are_up(agent: Agent) -> None:
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    while not all(backend["health"] == "up" for backend in agent.backends().values()):
        if time.monotonic() > deadline:
            raise DidNotRun(f"not all backends are up within {_SETTLED_WITHIN_S:g} s")
        # The agent's log tells of a change of health, but not of a first good probe.
        time.sleep(_POLL_S)


if __name__ == "__main__":
    print(json.dumps(decide(Variant(sys.argv[1]))))
