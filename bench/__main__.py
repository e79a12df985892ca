"""`python -m bench [NAME...]`: run the named benches, or all; Markdown on stdout.

Exit code 1 only where something did not run. Whether a requirement held is printed, never judged
by the exit code: on a busy host a good program is slow too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from bench.agent import measure_agent
from bench.command import DidNotRun
from bench.compare.run import ROUNDS, SECONDS, measure_compare
from bench.files import measure_files
from bench.markdown import describe_software
from bench.probes import measure_probes
from bench.reloads import measure_reloads
from bench.scale import measure_scale
from bench.startup import measure_startup
from bench.sustained import measure_sustained

BENCHES: Mapping[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "startup": ("`paraglider check` beside an import of PyYAML, whole processes", measure_startup),
    "files": ("time and memory of hostile and of large configuration files", measure_files),
    "probes": ("the prober's processor time and memory, at 1,000 backends", measure_probes),
    "agent": ("decisions, reloads, flushes by others, and rest; as root", measure_agent),
    "reloads": (
        "the agent's memory over 5,000 reloads, each of another file; as root",
        measure_reloads,
    ),
    "scale": ("connections and changes at 1,000 frontends of 100; as root", measure_scale),
    "sustained": ("15,000 new connections a second for a minute; as root", measure_sustained),
    "compare": ("a connection beside HAProxy, nginx, kube-proxy; as root", measure_compare),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what `argv` names (default: the process's own arguments); return the exit code."""
    listing = "\n".join(f"  {name:10} {summary}" for name, (summary, _) in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure, and print Markdown tables. Without a name: everything.",
        epilog=f"benches:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a bench of the list below")
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        metavar="N",
        help="of `compare` (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="S",
        help="of each of its windows of new connections (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    names: list[str] = arguments.names
    if unknown := [name for name in names if name not in BENCHES]:
        parser.error(f"no bench is called {unknown[0]!r}; there are: {', '.join(BENCHES)}")
    code = 0
    print(describe_software())
    for name in names or BENCHES:
        summary, measure = BENCHES[name]
        if name == "compare":
            measure = partial(measure_compare, rounds=arguments.rounds, seconds=arguments.seconds)
        print(f"\n## {name}: {summary}\n")
        try:
            for line in measure():
                print(line, flush=True)
        except DidNotRun as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())
