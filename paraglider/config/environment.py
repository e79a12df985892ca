"""A configuration from environment variables, where no file can be mounted.

Sample input::

    PARAGLIDER_BIND=166.1.101.2:4444
    PARAGLIDER_PRIVATEIP=172.19.0.4
    PARAGLIDER_BACKENDS=172.19.0.2:5555,172.19.0.3:5555

A variable that is set to nothing counts as not set: compose files write ``${BIND:-}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from paraglider.config.address import Role
from paraglider.config.agreement import check_agreement
from paraglider.config.draft import Draft, Text, draft_address, draft_backend, draft_endpoint
from paraglider.config.keys import PURPOSES
from paraglider.config.model import DEFAULT_NAME, Address, Config, Endpoint
from paraglider.config.problems import Enough, Place, Problems

SOURCE = "environment"
BIND = "PARAGLIDER_BIND"
PRIVATEIP = "PARAGLIDER_PRIVATEIP"
BACKENDS = "PARAGLIDER_BACKENDS"
VARIABLES = (BIND, PRIVATEIP, BACKENDS)


def is_configured(environment: Mapping[str, str]) -> bool:
    """Return whether any of the variables says something."""
    return any(environment.get(variable, "").strip() for variable in VARIABLES)


def parse_environment(environment: Mapping[str, str]) -> Config:
    """Parse the variables. Raises ConfigError with every problem, missing variables among them."""
    problems = Problems(SOURCE)
    try:
        draft = _read_draft(environment, problems)
        check_agreement([draft], problems)
    except Enough as enough:
        raise problems.error(enough) from None
    problems.raise_if_any()
    return Config(SOURCE, tuple(found for found in (draft.frontend(),) if found))


def _read_draft(environment: Mapping[str, str], problems: Problems) -> Draft:
    bind: tuple[Endpoint, Place] | None = None
    privateip: tuple[Address, Place] | None = None
    if text := _read_variable(environment, BIND, problems, PURPOSES["bind"]):
        bind = draft_endpoint(text, Role.BIND, Place(None, None, BIND), problems)
    if text := _read_variable(environment, PRIVATEIP, problems, PURPOSES["privateip"]):
        privateip = draft_address(text, Role.PRIVATEIP, Place(None, None, PRIVATEIP), problems)
    backends: tuple[tuple[Endpoint, Place], ...] = ()
    wanted = "the servers, as ADDRESS:PORT with commas between, such as 172.19.0.2:5555"
    if text := _read_variable(environment, BACKENDS, problems, wanted):
        backends = tuple(_split_backends(text.value, problems))
    return Draft((DEFAULT_NAME, Place(None, None, "")), bind, privateip, backends)


def _read_variable(
    environment: Mapping[str, str], variable: str, problems: Problems, wanted: str
) -> Text | None:
    value = environment.get(variable, "").strip()
    if value:
        return Text(value, is_plain=False)
    problems.add(
        Place(None, None, variable),
        f"is not set; it holds {wanted}",
    )
    return None


def _split_backends(value: str, problems: Problems) -> Iterator[tuple[Endpoint, Place]]:
    seen: dict[Endpoint, Place] = {}
    for index, item in enumerate(value.split(",")):
        place = Place(None, None, f"{BACKENDS}[{index}]")
        text = Text(item.strip(), is_plain=False)
        if not text.value:
            problems.add(place, "nothing stands between two commas; remove one")
        elif backend := draft_backend(text, seen, place, problems):
            yield backend
