"""A configuration from environment variables, where no file can be mounted.

Sample input, the addresses alone, or all of a file in one variable::

    PARAGLIDER_BIND=166.1.101.2:4444
    PARAGLIDER_PRIVATEIP=172.19.0.4
    PARAGLIDER_BACKENDS=172.19.0.2:5555,172.19.0.3:5555

    PARAGLIDER_CONFIG_YAML={frontend: {bind: "166.1.101.2:4444", ...}}

A variable that is set to nothing counts as not set: compose files write ``${BIND:-}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from paraglider.config.agreement import check_agreement
from paraglider.config.backend import BackendDraft, Seen, draft_backend
from paraglider.config.document import Text
from paraglider.config.draft import Draft
from paraglider.config.frontend import parse_bind, parse_privateip
from paraglider.config.keys import FRONTEND_KEYS
from paraglider.config.model import DEFAULT_NAME, Config
from paraglider.config.parse import parse_config
from paraglider.config.problems import Enough, Place, Problems
from paraglider.config.value import draft_value

SOURCE = "environment"
BIND = "PARAGLIDER_BIND"
PRIVATEIP = "PARAGLIDER_PRIVATEIP"
BACKENDS = "PARAGLIDER_BACKENDS"
VARIABLES = (BIND, PRIVATEIP, BACKENDS)
YAML = "PARAGLIDER_CONFIG_YAML"

_T = TypeVar("_T")


def is_configured(environment: Mapping[str, str]) -> bool:
    """Return whether any of the variables says something."""
    return any(_value(environment, variable) for variable in (YAML, *VARIABLES))


def parse_environment(environment: Mapping[str, str]) -> Config:
    """Parse the variables. Raises ConfigError with every problem, missing variables among them."""
    problems = Problems(SOURCE)
    if _value(environment, YAML):
        _refuse_both(environment, problems)
        # As the process was given it: bytes that are not UTF-8 are for the parser to tell.
        return parse_config(environment[YAML].encode(errors="surrogateescape"), source=YAML)
    try:
        draft = _read_draft(environment, problems)
        check_agreement([draft], problems)
    except Enough as enough:
        raise problems.error(enough) from None
    problems.raise_if_any()
    return Config(SOURCE, tuple(found for found in (draft.frontend(),) if found))


def _value(environment: Mapping[str, str], variable: str) -> str:
    return environment.get(variable, "").strip()


def _refuse_both(environment: Mapping[str, str], problems: Problems) -> None:
    """Raise ConfigError where the configuration is said in both ways."""
    also = [variable for variable in VARIABLES if _value(environment, variable)]
    if also:
        verb = "are" if len(also) > 1 else "is"
        problems.add(
            Place(None, None, YAML),
            f"is set, and so {verb} {' and '.join(also)}; the configuration comes from this"
            " alone or from the others, unset one or the other",
        )
    problems.raise_if_any()


def _read_draft(environment: Mapping[str, str], problems: Problems) -> Draft:
    draft = Draft((DEFAULT_NAME, Place(None, None, "")))
    draft.bind = _read_variable(
        environment, BIND, problems, wanted=FRONTEND_KEYS["bind"], parse=parse_bind
    )
    draft.privateip = _read_variable(
        environment, PRIVATEIP, problems, wanted=FRONTEND_KEYS["privateip"], parse=parse_privateip
    )
    wanted = "the servers, as ADDRESS:PORT with commas between, such as 172.19.0.2:5555"
    if found := _read_variable(environment, BACKENDS, problems, wanted=wanted, parse=str):
        draft.backends = tuple(_split_backends(found[0], problems))
    return draft


def _read_variable(
    environment: Mapping[str, str],
    variable: str,
    problems: Problems,
    *,
    wanted: str,
    parse: Callable[[str], _T],
) -> tuple[_T, Place] | None:
    place = Place(None, None, variable)
    if value := _value(environment, variable):
        return draft_value(Text(value, is_plain=False), parse, place, problems)
    problems.add(place, f"is not set; it holds {wanted}")
    return None


def _split_backends(value: str, problems: Problems) -> Iterator[BackendDraft]:
    seen: Seen = {}
    for index, item in enumerate(value.split(",")):
        place = Place(None, None, f"{BACKENDS}[{index}]")
        text = Text(item.strip(), is_plain=False)
        if text.value:
            yield draft_backend(text, seen, place, problems)
        else:
            problems.add(place, "nothing stands between two commas; remove one")
