"""How long `paraglider check` takes, beside the least that a program which reads YAML can take.

Owns the comparison with ``python3 -c 'import yaml'``: same interpreter, same site-packages, whole
processes by turns, and the ratio taken within each round. The time of one command alone says more
about the host than about us.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.command import ROOT, Command, time_by_turns
from bench.install import install_plainly
from bench.markdown import head, row, spread, verdict
from paraglider.lab.demo import SAMPLE_CONFIG

ROUNDS = 21
MAX_RATIO = 3.0

_NOTHING, _IMPORT, _CHECK = "`-c pass`", "`-c 'import yaml'`", "`-m paraglider check`"


def measure_startup() -> Iterator[str]:
    """Yield a table of times and one of ratios, for two ways to have the program."""
    with TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        sample = directory / "glider.yaml"
        sample.write_text(SAMPLE_CONFIG, encoding="utf-8")
        python = install_plainly(directory / "environment")
        # -I: neither the working directory nor the user's own packages are looked into. From the
        # source tree they are: the working directory is where the package is.
        places = {
            "installed": _commands((str(python), "-I"), sample, directory),
            "source tree": _commands((sys.executable,), sample, ROOT),
        }
        commands = {
            f"{place}: {what}": command
            for place, set_ in places.items()
            for what, command in set_.items()
        }
        seconds = time_by_turns(commands, rounds=ROUNDS)

    yield head("where: what", "min ms", "median ms", "max ms", texts=1)
    for name, values in seconds.items():
        yield row(name, *spread([1000 * value for value in values]))

    yield f"\nRatio of `check` to the import, in each of {ROUNDS} rounds:\n"
    yield head("where", "min", "median", "max", texts=1)
    too_slow = []
    for place in places:
        pairs = zip(seconds[f"{place}: {_CHECK}"], seconds[f"{place}: {_IMPORT}"], strict=True)
        ratios = [check / import_ for check, import_ in pairs]
        if median(ratios) > MAX_RATIO:
            too_slow.append(place)
        yield row(place, *spread(ratios, digits=2))
    yield verdict(f"a median ratio of at most {MAX_RATIO:g}", broken_by=too_slow)


def _commands(python: tuple[str, ...], sample: Path, directory: Path) -> dict[str, Command]:
    check = (*python, "-m", "paraglider", "-config", str(sample), "check")
    return {
        _NOTHING: Command((*python, "-c", "pass"), directory),
        _IMPORT: Command((*python, "-c", "import yaml"), directory),
        _CHECK: Command(check, directory),
    }
