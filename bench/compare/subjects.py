"""What is compared: each by its name, with what it needs and what it puts on the balancer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.compare.by_hand import BY_HAND_RULES, TRANSLATION_RULES
from bench.compare.kube import render_kube_rules
from bench.compare.proxies import HAPROXY, NGINX, find_program, start_haproxy, start_nginx
from bench.compare.stage import BACKEND_ENDPOINTS, BALANCER, BIND, PRIVATEIP, Stage
from paraglider.kernel.iptables import Variant

ROUTED, CONNTRACK = "routed", "routed, conntrack"
PRODUCTS = tuple(f"Paraglider, {variant.value}" for variant in Variant)
BY_HAND = tuple(f"by hand, {variant.value}" for variant in Variant)
TRANSLATION = tuple(f"translation alone, {variant.value}" for variant in Variant)
KUBE = tuple(f"kube-proxy's rules, {variant.value}" for variant in Variant)
THE_HAPROXY = "HAProxy"
# Those that are told apart by little.
CLOSE = (ROUTED, CONNTRACK, *PRODUCTS, *BY_HAND, *TRANSLATION)

_CONNTRACK_RULE = ("-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
_CONFIG = f"""\
frontend:
  bind: {BIND}
  privateip: {PRIVATEIP}
  backends: [{", ".join(BACKEND_ENDPOINTS)}]
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """One way from the client to the backends.

    `prepare` makes it be there on a stage without any, and returns the process that connections
    pass through, None where there is none. A direct one has no address of its own: the client turns
    to the backends, by the same links.
    """

    name: str
    prepare: Callable[[Stage], subprocess.Popen[str] | None]
    needs: str
    is_direct: bool = False

    @property
    def targets(self) -> Sequence[str]:
        """Where the client connects to, in turn."""
        return BACKEND_ENDPOINTS if self.is_direct else (BIND,)

    @property
    def is_missing(self) -> bool:
        """Whether its program is not installed here."""
        return find_program(self.needs) is None


def list_subjects() -> list[Subject]:
    """Return all there are, the two that the others are compared with first."""
    subjects = [
        Subject(ROUTED, _add_nothing, "ip", is_direct=True),
        Subject(CONNTRACK, _add_conntrack, "iptables-nft", is_direct=True),
    ]
    subjects += list_products()
    for names, rules in (
        (BY_HAND, BY_HAND_RULES),
        (TRANSLATION, TRANSLATION_RULES),
        (KUBE, render_kube_rules()),
    ):
        for variant, name in zip(Variant, names, strict=True):
            restore = f"iptables-{variant.value}-restore"
            subjects.append(Subject(name, partial(_restore, restore, rules), restore))
    subjects.append(Subject(THE_HAPROXY, start_haproxy, HAPROXY))
    subjects.append(Subject("nginx", start_nginx, NGINX))
    return subjects


def list_products() -> list[Subject]:
    """Return Paraglider with each variant of iptables."""
    return [
        Subject(name, partial(_apply_product, variant), f"iptables-{variant.value}")
        for variant, name in zip(Variant, PRODUCTS, strict=True)
    ]


def _add_nothing(_: Stage) -> None:
    """Leave the balancer what every stage begins with: a router."""


def _add_conntrack(stage: Stage) -> None:
    stage.run(BALANCER, ["iptables-nft", *_CONNTRACK_RULE])


def _apply_product(variant: Variant, stage: Stage) -> None:
    argv = [sys.executable, "-m", "paraglider", "-config", "-", "start"]
    stage.run(BALANCER, argv, input=_CONFIG, env={"PARAGLIDER_IPTABLES": variant.value})


def _restore(restore: str, rules: str, stage: Stage) -> None:
    stage.run(BALANCER, [restore], input=rules)
