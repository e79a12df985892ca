"""An environment with the program and PyYAML in it and nothing else, as users have it.

Owns that throwaway environment. A working copy is installed "editable", which makes every start
of its interpreter slower by a finder, also the start that we compare with. Fetches nothing and
changes nothing outside the given directory.
"""

from __future__ import annotations

import compileall
import shutil
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

from bench.command import DidNotRun

_PACKAGES = ("paraglider", "yaml")


def install_plainly(directory: Path) -> Path:
    """Make a virtual environment in `directory`; return the path of its interpreter."""
    venv.create(directory, symlinks=True)
    paths = sysconfig.get_paths("venv", vars={"base": str(directory), "platbase": str(directory)})
    packages = Path(paths["purelib"])
    for name in _PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise DidNotRun(f"there is no package {name} to measure; run make to install it")
        source = Path(spec.origin).parent
        shutil.copytree(source, packages / name, ignore=shutil.ignore_patterns("__pycache__"))
    # As pip does; else the first start would.
    compileall.compile_dir(packages, quiet=1)
    return Path(paths["scripts"]) / "python"
