"""A configuration from environment variables, where no file can be mounted.

Sample input, the addresses alone, or all of a file in one variable::

    PARAGLIDER_BIND=166.1.101.2:4444
    PARAGLIDER_PRIVATEIP=172.19.0.4
    PARAGLIDER_BACKENDS=172.19.0.2:5555,172.19.0.3:5555

    PARAGLIDER_CONFIG_YAML={frontend: {bind: "166.1.101.2:4444", ...}}

``PARAGLIDER_BIND`` may hold several binds with spaces between, for their ports may have commas.
A variable that is set to nothing counts as not set: compose files write ``${BIND:-}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from paraglider.config.agreement import check_agreement
from paraglider.config.backend import BackendDraft, Seen, draft_backend
from paraglider.config.document import Text
from paraglider.config.draft import Draft, SourceDraft
from paraglider.config.frontend import draft_address, draft_bind
from paraglider.config.keys import FRONTEND_KEYS
from paraglider.config.model import DEFAULT_NAME, Config
from paraglider.config.parse import parse_config
from paraglider.config.problems import Enough, Place, Problems
from paraglider.config.variables import BACKENDS, BIND, CONFIG_YAML, PRIVATEIP, SOURCE

ADDRESS_VARIABLES = (BIND, PRIVATEIP, BACKENDS)


def is_configured(environment: Mapping[str, str]) -> bool:
    """Return whether any of the variables says something."""
    return any(_value(environment, variable) for variable in (CONFIG_YAML, *ADDRESS_VARIABLES))


def parse_environment(environment: Mapping[str, str]) -> Config:
    """Parse the variables. Raises ConfigError with every problem, missing variables among them."""
    problems = Problems(SOURCE)
    if _value(environment, CONFIG_YAML):
        _refuse_both(environment, problems)
        # As the process was given it: bytes that are not UTF-8 are for the parser to tell.
        return parse_config(
            environment[CONFIG_YAML].encode(errors="surrogateescape"), source=CONFIG_YAML
        )
    try:
        draft = _read_draft(environment, problems)
        check_agreement([draft], problems)
    except Enough as enough:
        raise problems.error(enough) from None
    problems.raise_if_any()
    return Config(SOURCE, tuple(draft.frontends()))


def _value(environment: Mapping[str, str], variable: str) -> str:
    return environment.get(variable, "").strip()


def _refuse_both(environment: Mapping[str, str], problems: Problems) -> None:
    """Raise ConfigError where the configuration is said in both ways."""
    also = [variable for variable in ADDRESS_VARIABLES if _value(environment, variable)]
    if also:
        verb = "are" if len(also) > 1 else "is"
        problems.add(
            Place(None, None, CONFIG_YAML),
            f"is set, and so {verb} {' and '.join(also)}; the configuration comes from this"
            " alone or from the others, unset one or the other",
        )
    problems.raise_if_any()


def _read_draft(environment: Mapping[str, str], problems: Problems) -> Draft:
    draft = Draft((DEFAULT_NAME, Place(None, None, "")))
    if value := _require(environment, BIND, problems, FRONTEND_KEYS["bind"]):
        draft.written_binds = tuple(
            found
            for text, place in _split(value, BIND)
            for found in draft_bind(text, place, problems)
        )
    if value := _require(environment, PRIVATEIP, problems, FRONTEND_KEYS["privateip"]):
        draft.source = _read_source(value, problems)
    wanted = "the servers, as ADDRESS:PORT with commas between, such as 172.19.0.2:5555"
    if value := _require(environment, BACKENDS, problems, wanted):
        draft.backends = tuple(_split_backends(value, problems))
    draft.settle_binds()
    return draft


def _require(environment: Mapping[str, str], variable: str, problems: Problems, wanted: str) -> str:
    if not (value := _value(environment, variable)):
        problems.add(Place(None, None, variable), f"is not set; it holds {wanted}")
    return value


def _read_source(value: str, problems: Problems) -> SourceDraft | None:
    place = Place(None, None, PRIVATEIP)
    if not (value := value.replace(",", " ").strip()):
        problems.add(place, f"holds commas alone; it holds {FRONTEND_KEYS['privateip']}")
        return None
    texts = list(_split(value, PRIVATEIP))
    if len(texts) == 1:
        return draft_address(*texts[0], problems)
    from paraglider.config.source import draft_ranges

    return draft_ranges(texts, place, problems)


def _split(value: str, variable: str) -> Iterator[tuple[Text, Place]]:
    """Yield what stands between spaces that follow no comma, of several each with its place."""
    parts = re.split(r"(?<!,)\s+", value)
    for index, part in enumerate(parts):
        key_path = variable if len(parts) == 1 else f"{variable}[{index}]"
        yield Text(part, is_plain=False), Place(None, None, key_path)


def _split_backends(value: str, problems: Problems) -> Iterator[BackendDraft]:
    seen: Seen = {}
    for index, item in enumerate(value.split(",")):
        place = Place(None, None, f"{BACKENDS}[{index}]")
        text = Text(item.strip(), is_plain=False)
        if text.value:
            yield draft_backend(text, seen, place, problems)
        else:
            problems.add(place, "nothing stands between two commas; remove one")
