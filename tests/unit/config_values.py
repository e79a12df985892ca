"""What tests say of any configuration that is taken, and of any that is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations

from paraglider.config.clients import Access, Rate, Refuse, Source, SourceKind
from paraglider.config.model import (
    HOST_PATTERN,
    INTERFACE_PATTERN,
    NAME_PATTERN,
    Backend,
    Bind,
    Check,
    CheckKind,
    Config,
    Family,
    Frontend,
    Protocol,
)
from paraglider.errors import ConfigError


def is_address(value: object) -> bool:
    return type(value) in (IPv4Address, IPv6Address)


def is_bind(value: object, family: Family) -> bool:
    return (
        type(value) is Bind
        and value.family is family
        and 1 <= value.ports.first <= value.ports.last <= 65535
        and type(value.protocol) is Protocol
        and (
            re.fullmatch(INTERFACE_PATTERN, value.interface) is not None or value.interface == ""
            if value.address is None
            else is_address(value.address)
            and value.address.version == family
            and value.interface == ""
        )
    )


def is_source(value: object, family: Family) -> bool:
    if type(value) is not Source or type(value.kind) is not SourceKind:
        return False
    ends = [int(end) for range_ in value.ranges for end in range_]
    return (
        (value.kind is SourceKind.ADDRESS) == bool(value.ranges)
        and all(is_address(end) and end.version == family for pair in value.ranges for end in pair)
        and ends == sorted(ends)
        and all(after - before > 1 for before, after in zip(ends[1::2], ends[2::2], strict=False))
    )


def is_access(value: object, family: Family) -> bool:
    network = IPv4Network if family is Family.IPV4 else IPv6Network
    return (
        type(value) is Access
        and all(type(it) is network for it in (*value.allow, *value.deny))
        and len(set(value.allow)) == len(value.allow)
        and 0 <= value.max_connections <= 1_000_000
        and type(value.refuse) is Refuse
        and (value.rate is None or (type(value.rate) is Rate and value.rate.count > 0))
    )


def is_check(check: object) -> bool:
    """Say whether a check could be made as it is: within bounds, and of one line of HTTP."""
    return (
        type(check) is Check
        and 0.01 <= check.timeout_s <= check.interval_s <= 3600
        and all(1 <= count <= 100 for count in (check.rise, check.fall))
        and (check.address is None or is_address(check.address))
        and (check.port is None or 1 <= check.port <= 65535)
        and all(len(text) <= 1024 for text in (check.send, check.expect, check.http.body))
        and re.fullmatch(r"GET|HEAD|OPTIONS", check.http.method) is not None
        and re.fullmatch(r"/[!-~]*", check.http.path) is not None
        and all(re.fullmatch(r"[!-~]*", it) for it in (check.http.host, check.http.sni))
        and len(check.http.headers) <= 16
        and all(
            re.fullmatch(r"[!-9;-~]+", name) and re.fullmatch(r"[ -~\t]*", value)
            for name, value in check.http.headers
        )
        and all(100 <= first <= last <= 599 for first, last in check.http.statuses)
        and check.http.statuses != ()
        and (check.kind is not CheckKind.NONE or check == Check(kind=CheckKind.NONE))
    )


def is_backend(value: object, family: Family) -> bool:
    return (
        type(value) is Backend
        and (
            re.fullmatch(HOST_PATTERN, value.host) is not None
            if isinstance(value.host, str)
            else is_address(value.host) and value.host.version == family
        )
        and type(value.port) is int
        and 0 <= value.port <= 65535
        and (value.last_port == 0 or 1 <= value.port < value.last_port <= 65535)
        and type(value.is_backup) is bool
        and is_check(value.check)
        and bool(value.port or value.check.port or value.check.kind is CheckKind.NONE)
        and 0 <= value.max_connections <= 1_000_000
    )


def is_frontend(value: object) -> bool:
    return (
        type(value) is Frontend
        and re.fullmatch(NAME_PATTERN, value.name) is not None
        and len(value.binds) > 0
        and all(is_bind(bind, value.family) for bind in value.binds)
        and is_source(value.source, value.family)
        and is_access(value.access, value.family)
        and type(value.backends) is tuple
        and len(value.backends) > 0
        and all(is_backend(backend, value.family) for backend in value.backends)
        and value.quorum.live > value.quorum.hysteresis >= 0
        and 0 <= value.slow_start_s <= 3600
        and 1 <= value.resolve_s <= 3600
        and 0 <= value.hold_s <= 86400
    )


def is_config(config: Config) -> bool:
    """Say whether all frontends could be, and none takes what is another's."""
    keys = [(frontend.name, frontend.family) for frontend in config.frontends]
    binds = [bind for frontend in config.frontends for bind in frontend.binds]
    return (
        len(config.frontends) > 0
        and all(map(is_frontend, config.frontends))
        and len(set(keys)) == len(keys)
        and not any(
            one.ports.first <= other.ports.last and other.ports.first <= one.ports.last
            for one, other in combinations(binds, 2)
            if one._replace(ports=other.ports) == other
        )
    )


def is_reason(error: ConfigError) -> bool:
    """Say whether every problem is one line of ASCII of bounded length."""
    lines = [str(problem) for problem in error.problems]
    return bool(lines) and all(
        line.isascii() and line.isprintable() and len(line) < 600 for line in lines
    )


def is_answered(parse: Callable[[], Config]) -> bool:
    try:
        config = parse()
    except ConfigError as error:
        return is_reason(error)
    return is_config(config)
