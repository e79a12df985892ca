"""Values that are right by themselves and wrong together.

Owns the checks between the values of a frontend, and between frontends. Everything is looked up
in dictionaries: ten thousand frontends take ten thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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
        _check_quorum(draft, problems)
        _check_checks(draft, problems)


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
    for address, place in _addresses_of(draft):
        if address.version != bind.address.version:
            problems.add(
                place,
                f"{address} is {_family(address)}, but {bind_place} is {_family(bind.address)};"
                " one frontend is of one family",
            )


def _addresses_of(draft: Draft) -> Iterator[tuple[Address, Place]]:
    """Yield all addresses of a frontend but its bind's."""
    if draft.privateip is not None:
        yield draft.privateip
    if draft.check and draft.check.address:
        yield draft.check.address
    for it in draft.backends:
        if it.backend is not None and not isinstance(it.backend.host, str):
            yield it.backend.host, it.place
        if it.check and it.check.address:
            yield it.check.address


def _check_loops(draft: Draft, binds: dict[str | Endpoint, Place], problems: Problems) -> None:
    for it in draft.backends:
        endpoint = it.backend and it.backend.endpoint
        if endpoint in binds:
            problems.add(
                it.place,
                f"{endpoint} is a bind of this configuration: {binds[endpoint]};"
                " connections would come back here for ever, name a server",
            )


def _check_quorum(draft: Draft, problems: Problems) -> None:
    """How many servers a name stands for is not known here, nor what a refused backend is."""
    if draft.quorum is None or not draft.backends:
        return
    count = 0
    for it in draft.backends:
        if it.backend is None or (isinstance(it.backend.host, str) and not it.backend.is_backup):
            return
        count += not it.backend.is_backup
    quorum, place = draft.quorum
    if quorum.live > count:
        problems.add(
            place,
            f"the quorum of {quorum.live} is never reached: the backends that are no backups are"
            f" {count}; write a smaller number",
        )
    elif (most := quorum.live + quorum.hysteresis) > count:
        problems.add(
            place,
            f"once lost, the quorum is won back by {quorum.live} + {quorum.hysteresis} = {most}"
            f" backends, and those that are no backups are {count}; write smaller numbers",
        )


def _check_checks(draft: Draft, problems: Problems) -> None:
    frontend, backends = draft.check, [it.check for it in draft.backends if it.check]
    if not frontend and not backends:
        return
    from paraglider.config.check import check_settings

    if frontend:
        check_settings(None, frontend, problems)
    for backend in backends:
        check_settings(frontend, backend, problems)


def _family(address: Address) -> str:
    return f"IPv{address.version}"
