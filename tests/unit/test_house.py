"""The house: a room imports only rooms to its left, and a module stays of a size to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parents[2] / "paraglider"

# errors  config ► health ► rules ► kernel ► lab ► agent ► cli
_LEFT_OF: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "health": {"errors", "config"},
    "rules": {"errors", "config", "health"},
    "kernel": {"errors", "config", "health", "rules"},
    "lab": {"errors", "config", "health", "rules", "kernel"},
    "agent": {"errors", "config", "health", "rules", "kernel", "lab"},
    "cli": {"errors", "config", "health", "rules", "kernel", "lab", "agent"},
}
_MODULES = sorted(_PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(_PACKAGE))


def _room(path: Path) -> str:
    return path.relative_to(_PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [p for p in _MODULES if _room(p) in _LEFT_OF], ids=_name)
def test_a_room_imports_only_rooms_to_its_left(path: Path) -> None:
    """Or itself; the version, in the package itself, is everybody's."""
    own = (name.split(".") for name in _imports(path) if name.startswith("paraglider."))
    rooms = {parts[1] for parts in own} - {_room(path), "__version__"}
    assert rooms <= _LEFT_OF[_room(path)]


def test_every_room_is_known() -> None:
    """A new one is laid in the house first."""
    rooms = {_room(path) for path in _MODULES} - {"__init__", "__main__"}
    assert rooms == set(_LEFT_OF)


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_a_module_has_a_docstring_and_450_lines_at_most(path: Path) -> None:
    """What it owns comes first, and it can be read at one sitting."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 450


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_a_function_has_40_lines_at_most(path: Path) -> None:
    """Without its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 40, node.name


def _starts_programs(path: Path) -> bool:
    called = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    is_called = any(name.startswith(("exec", "posix_spawn", "spawn", "popen")) for name in called)
    return is_called or "system" in called or "subprocess" in set(_imports(path))


def test_programs_are_started_in_one_place() -> None:
    """So that what reaches the host can be seen there."""
    starters = {_name(path) for path in _MODULES if _starts_programs(path)}
    assert {name for name in starters if not name.startswith("lab/")} == {"kernel/process.py"}
