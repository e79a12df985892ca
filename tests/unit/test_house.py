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


_SYSTEM_ERRORS = {"OSError", "IOError", "Exception", "ImportError", "BaseException"}
_SYSTEM_ERRORS |= {"ssl.SSLError", "socket.gaierror", "PermissionError", "ConnectionError"}


def _is_repr(node: ast.AST) -> bool:
    """Tell whether `node` shows a value as Python writes it."""
    if isinstance(node, ast.FormattedValue):
        return node.conversion in (ord("r"), ord("a"))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "%r" in node.value
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "repr"


def _bare_system_errors(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that put an error of the system into a text as it is."""
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.type is None:
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if not _SYSTEM_ERRORS & {ast.unparse(kind) for kind in kinds}:
            continue
        for shown in _texts(handler):
            if isinstance(shown, ast.Name) and shown.id == handler.name:
                yield shown.lineno


def _texts(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what `tree` turns into text: {in an f-string}, and str(of this)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            yield node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "str":
            yield from node.args


# Where repr() is the grammar of what is written: a hash's input, a number of a metric.
_REPR_IS_MEANT = {"rules/spread.py", "agent/metrics.py"}


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_no_message_shows_a_value_as_python_writes_it(path: Path) -> None:
    """`config.quote` quotes what a user wrote."""
    found = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if _is_repr(node)]
    assert not found or _name(path) in _REPR_IS_MEANT


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_no_message_has_the_number_of_a_system_error(path: Path) -> None:
    """str() of an OSError is `[Errno 2] No such file ...: 'x'`; `errors.explain` words it."""
    assert list(_bare_system_errors(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("try:\n  f()\nexcept OSError as e:\n  print(f'cannot: {e}')", True),
        ("try:\n  f()\nexcept (ValueError, OSError) as e:\n  x = str(e)", True),
        ("try:\n  f()\nexcept OSError as e:\n  print(explain(e))", False),
        ("try:\n  f()\nexcept ValueError as e:\n  print(f'{e}')", False),
    ],
)
def test_a_system_error_in_a_text_is_found(text: str, *, is_refused: bool) -> None:
    """The search itself can fail."""
    assert bool(list(_bare_system_errors(ast.parse(text)))) is is_refused
