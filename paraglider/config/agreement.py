"""Values that are right by themselves and wrong together.

Owns the checks between the values of a frontend, and between frontends. Everything is looked up
in dictionaries: ten thousand frontends take ten thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paraglider.config.draft import Draft
from paraglider.config.model import Address, Endpoint
from paraglider.config.problems import Place, Problems


def check_agreement(drafts: Sequence[Draft], problems: Problems) -> None:
    """Tell `problems` what does not fit together in `drafts`."""
    _check_doubled((draft.name for draft in drafts), problems, "the name {} is taken by {}")
    binds = _check_doubled(
        (draft.bind for draft in drafts),
        problems,
        "{} is the bind of another frontend already: {}; each needs an address and port of its own",
    )
    for draft in drafts:
        _check_families(draft, problems)
        _check_loops(draft, binds, problems)


def _check_doubled(
    values: Iterable[tuple[str | Endpoint, Place] | None], problems: Problems, message: str
) -> dict[str | Endpoint, Place]:
    """Return each value with the place of its first appearance; tell of every later one."""
    first: dict[str | Endpoint, Place] = {}
    for found in values:
        if found is None:
            continue
        value, place = found
        if value in first:
            problems.add(place, message.format(value, first[value]))
        else:
            first[value] = place
    return first


def _check_families(draft: Draft, problems: Problems) -> None:
    if draft.bind is None:
        return
    bind, bind_place = draft.bind
    others: list[tuple[Address, Place]] = [
        (endpoint.address, place) for endpoint, place in draft.backends
    ]
    if draft.privateip is not None:
        others.append(draft.privateip)
    for address, place in others:
        if address.version != bind.address.version:
            problems.add(
                place,
                f"{address} is {_family(address)}, but {bind_place} is {_family(bind.address)};"
                " one frontend is of one family",
            )


def _check_loops(draft: Draft, binds: dict[str | Endpoint, Place], problems: Problems) -> None:
    for backend, place in draft.backends:
        if backend in binds:
            problems.add(
                place,
                f"{backend} is a bind of this configuration: {binds[backend]};"
                " connections would come back here for ever, name a server",
            )


def _family(address: Address) -> str:
    return f"IPv{address.version}"
