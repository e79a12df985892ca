"""The ruleset: the rules of one address family as values.

Owns the vocabulary that `plan.py` speaks and `text.py` writes: typed rules, chains, tables. No
string in it came from a user, except a frontend's name inside the name of a chain, which
`own_chain` checked. Nothing here knows how rules are made or how they reach the kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from paraglider.config.clients import Network as Network  # noqa: PLC0414 - the rules' word too
from paraglider.config.clients import Rate
from paraglider.config.model import Address, Endpoint, Family, HashKey, Ports, Protocol
from paraglider.config.quote import quoted

PREFIX = "PARAGLIDER-"

# iptables(8) takes 28 characters ("must be under 29").
_CHAIN_NAME = re.compile(PREFIX + r"[A-Za-z0-9][A-Za-z0-9_-]{0,16}")


# Chains of others that are there for rules such as ours, each with the built-in chain that its
# owner keeps it first in. Whenever a network is made or dockerd starts, Docker puts its jumps to
# DOCKER-USER and to its isolation before everybody else's in FORWARD (docs/adr/0011).
GUEST_CHAINS = {"DOCKER-USER": "FORWARD"}


class TableName(StrEnum):
    """The tables of iptables. Ours are in the first three; the others are looked at in removal."""

    FILTER = "filter"
    MANGLE = "mangle"
    NAT = "nat"
    RAW = "raw"
    SECURITY = "security"


class CtState(StrEnum):
    """Connection-tracking states as `--ctstate` names them (iptables-extensions(8))."""

    INVALID = "INVALID"
    DNAT = "DNAT"
    NEW = "NEW"


class Verdict(StrEnum):
    """Targets without arguments."""

    ACCEPT = "ACCEPT"
    DROP = "DROP"
    RETURN = "RETURN"


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on in a chain of ours."""

    chain: str


@dataclass(frozen=True, slots=True)
class Dnat:
    """Send the connection to a backend; of a backend with a range of ports, to the one that is as
    far from its first as the client's is from `base`."""

    to: Endpoint
    base: int = 0


@dataclass(frozen=True, slots=True)
class Snat:
    """Give the connection a source address, and a random free port."""

    to: Address


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Give the connection the address that the host has on the way to the backend, and a random
    free port."""


@dataclass(frozen=True, slots=True)
class TcpReset:
    """Refuse with a TCP reset: the client knows at once."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Refuse with an ICMP error, as a closed port does: what UDP has."""

    family: Family


@dataclass(frozen=True, slots=True)
class Hmark:
    """Give the packet a mark from a hash of its client: `offset` to ``offset + slots - 1``."""

    family: Family
    key: HashKey
    slots: int
    offset: int = 0


class Marking(StrEnum):
    """What is done about the packet's mark while it is ours: the words of the target."""

    SAVE = "CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"
    RESTORE = "CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff"
    CLEAR = "MARK --set-xmark 0x0/0xffffffff"


@dataclass(frozen=True, slots=True)
class SetMark:
    """Set the bits `mask` of the packet's mark to `value`, and leave the others."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class Remember:
    """Put the packet's source into a set of clients for `timeout_s`, or for that long again."""

    client_set: str
    timeout_s: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Take the packet's source out of a set of clients."""

    client_set: str


_Translation = Dnat | Snat | Masquerade
_Refusal = TcpReset | Unreachable
_Mark = Hmark | Marking | SetMark
Target = Verdict | Jump | _Translation | _Refusal | _Mark | Remember | Forget


@dataclass(frozen=True, slots=True)
class Nth:
    """Match one packet in `every`: of those that come by, counted from 0, number `packet` first.

    iptables turns it into the kernel's counter, which starts at ``every - 1 - packet`` and matches
    when it comes round (libxt_statistic.c; net/netfilter/xt_statistic.c).
    """

    every: int
    packet: int


# As rarely as there is a number for: xt_statistic counts in 32 bits.
EVERY_MOST = 2**32 - 1

# The kernel compares 31 random bits with a whole number (xt_statistic.h, XT_STATISTIC_MODE_RANDOM).
CERTAIN = 1 << 31


@dataclass(frozen=True, slots=True)
class Chance:
    """Match at random, `of_certain` times in `CERTAIN` (1 to ``CERTAIN - 1``)."""

    of_certain: int


Statistic = Nth | Chance


@dataclass(frozen=True, slots=True)
class TooOften:
    """Match a client that opens more than `rate`, counted under `name` (xt_hashlimit)."""

    rate: Rate
    name: str


@dataclass(frozen=True, slots=True)
class TooMany:
    """Match a client that has more than `most` connections open already (xt_connlimit)."""

    most: int
    family: Family


ALL_BITS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Mark:
    """Match if the bits `mask` of the packet's mark are `value`, or if they are not."""

    value: int
    mask: int = ALL_BITS
    is_not: bool = False


@dataclass(frozen=True, slots=True)
class Recent:
    """Match if a mark called `name` was set, or set it (xt_recent): it is there as long as any rule
    names it, whatever happens to rules beside these."""

    name: str
    family: Family
    is_set: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A comment in a rule, for later readers of the rules: `word` is one of ours."""

    word: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what must hold (absent = anything) and the target.

    `ct_address` and `ct_ports` are the destination of the connection's first packet, as the client
    sent it. `protocol` is of the packet, `ct_protocol` of its connection: an ICMP error about a TCP
    connection is only the second. One that `is_reply` goes the way of its connection's answers.
    `interface` is where the packet came in. `is_from_host` and
    `is_to_host` are of addresses that are this host's; the source is in `client_set`. `note`
    matches everything.
    """

    source: Address | Network | None = None
    destination: Address | Network | None = None
    not_destination: Network | None = None
    interface: str = ""
    protocol: Protocol | None = None
    source_ports: Ports | None = None
    destination_ports: Ports | None = None
    is_from_host: bool = False
    is_to_host: bool = False
    ct_state: CtState | None = None
    ct_protocol: Protocol | None = None
    ct_address: Address | Network | None = None
    ct_ports: Ports | None = None
    is_reply: bool = False
    statistic: Statistic | None = None
    recent: Recent | None = None
    mark: Mark | None = None
    too_often: TooOften | None = None
    too_many: TooMany | None = None
    client_set: str = ""
    note: Note | None = None
    target: Target


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of ours with all of its rules."""

    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """The one jump from a built-in chain to a chain of ours; it stands first there, but for that to
    REPLY_CHAIN, which stands last. `builtin` may be a guest chain too: the jump is made where there
    is one."""

    builtin: str
    chain: str

    @property
    def is_last(self) -> bool:
        """Whether it stands behind all other rules."""
        return self.chain == REPLY_CHAIN


@dataclass(frozen=True, slots=True)
class Table:
    """What is ours in one table; chains sorted by name, as iptables-save prints them."""

    name: TableName
    hooks: tuple[Hook, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All that is ours in one address family; a table that holds nothing of ours is left out."""

    family: Family
    tables: tuple[Table, ...]

    def table(self, name: TableName) -> Table:
        """Return the table called `name`, empty where nothing of ours is in it."""
        return next((t for t in self.tables if t.name is name), Table(name, (), ()))


def own_chain(suffix: str) -> str:
    """Return the name of our chain called `suffix`; ValueError where iptables could not hold it."""
    name = PREFIX + suffix
    if not _CHAIN_NAME.fullmatch(name):
        raise ValueError(f"not a name for a chain: {quoted(name)}")
    return name


def is_own_chain(name: str) -> bool:
    """Return whether a chain bears our prefix, whatever else its name is."""
    return name.startswith(PREFIX)


# It looks at the mark of a packet as others' rules leave it (return_path.py).
REPLY_CHAIN = own_chain("REPLY")
