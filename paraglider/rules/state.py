"""State: what is ours in the tables of one family, as text that compares.

One form for what is wanted (wanted.py) and for what the kernel holds (`parse_save`), so
that drift, apply, rollback and removal are one comparison. A rule of ours that the kernel prints in
another order or an older spelling is brought to our own form; one that is not of our grammar (a
stranger's, in our chain) stays as it is and so never equals a wanted one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from paraglider.rules.affinity import ClientSet
from paraglider.rules.parse import RuleSyntaxError, parse_rule
from paraglider.rules.policy_rules import PolicyRule
from paraglider.rules.ruleset import GUEST_CHAINS, REPLY_CHAIN, TableName, is_own_chain
from paraglider.rules.text import render_rule

# A rule may be nothing but its counters, and a comment in it may have lines.
_RULE_LINE = re.compile(r"(?:\[(\d+):(\d+)\] )?-A (\S+)(?: (.+))?", re.DOTALL)
# A word that iptables-save quotes, as it does comments; in a chain's name a quote is just itself.
_COMMENT_SIZE = 256  # XT_MAX_COMMENT_LEN
_QUOTED_WORD = re.compile(r' "(?:[^"\\]|\\.)*"(?= |$)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Counters:
    """Packets and bytes that a rule has matched."""

    packets: int = 0
    size_bytes: int = 0

    def plus(self, other: Counters) -> Counters:
        """Return the sum."""
        return Counters(self.packets + other.packets, self.size_bytes + other.size_bytes)


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule's text in one of our chains; the counters take no part in a comparison."""

    text: str
    counters: Counters = field(default=Counters(), compare=False)


LAST = 0
_LAST_JUMP = f"-j {REPLY_CHAIN}"


@dataclass(frozen=True, slots=True, order=True)
class HookLine:
    """A rule in a chain that is not ours and leads to one that is; `position` counts from 1. That
    of a jump which has to stand last is LAST where it does."""

    chain: str
    position: int
    text: str

    @property
    def target(self) -> str:
        """The chain of ours that it leads to."""
        return self.text.rsplit(" ", 1)[-1]

    @property
    def is_plain(self) -> bool:
        """Whether it is a jump as we make them; others are a stranger's, who wants to go there."""
        return self.text == f"-j {self.target}"


@dataclass(frozen=True, slots=True)
class TableState:
    """What is ours in one table, and `guests`: the guest chains that it has, each with whether the
    built-in chain leads there first."""

    chains: Mapping[str, tuple[RuleLine, ...]] = field(default_factory=dict)
    hooks: frozenset[HookLine] = frozenset()
    guests: Mapping[str, bool] = field(default_factory=dict, compare=False)

    def jumps(self, kept: Collection[str]) -> frozenset[HookLine]:
        """Return the hooks that are ours to set right, in view of the chains that are `kept`: our
        own jumps, and a stranger's to a chain that goes."""
        return frozenset(h for h in self.hooks if h.is_plain or h.target not in kept)

    def fit(self, wanted: Iterable[HookLine]) -> frozenset[HookLine]:
        """Return the wanted hooks as this table can have them.

        Those in a guest chain only where it is there; and where such a chain comes first, the same
        jump of the built-in chain may stand where it stands, if nothing else there leads to us.
        """
        # A chain that a jump stands in is there, whether or not anybody has looked.
        there = {*self.guests, *(hook.chain for hook in self.hooks)}
        hooks = [h for h in wanted if h.chain not in GUEST_CHAINS or h.chain in there]
        led = {(GUEST_CHAINS[h.chain], h.text) for h in hooks if self.guests.get(h.chain)}
        return frozenset(self._as_it_stands(h) if (h.chain, h.text) in led else h for h in hooks)

    def _as_it_stands(self, wanted: HookLine) -> HookLine:
        there = [hook for hook in self.hooks if hook.chain == wanted.chain]
        return there[0] if [hook.text for hook in there] == [wanted.text] else wanted


EMPTY_TABLE = TableState()


@dataclass(frozen=True, slots=True)
class State:
    """What is ours in all tables of one family. Tables without anything of ours are left out,
    except that `existing` names all tables the kernel printed. `client_sets` are those that wanted
    rules speak of, `policy_rules` those that go with them, in their order (policy_rules.py)."""

    tables: Mapping[TableName, TableState]
    existing: frozenset[str] = field(default=frozenset(), compare=False)
    client_sets: frozenset[ClientSet] = field(default=frozenset(), compare=False)
    policy_rules: tuple[PolicyRule, ...] = ()

    def table(self, name: TableName) -> TableState:
        """Return what is ours in the table `name`."""
        return self.tables.get(name, EMPTY_TABLE)

    def texts(self) -> frozenset[str]:
        """Return the text of every rule."""
        tables = self.tables.values()
        return frozenset(r.text for t in tables for rules in t.chains.values() for r in rules)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of ours is there."""
        return not any(table.chains or table.hooks for table in self.tables.values())


NOTHING = State(MappingProxyType({}))


def parse_save(text: str, written: Collection[str] = ()) -> State:
    """Return what is ours in the output of ``iptables-save`` (with or without ``--counters``);
    rules whose text is among what was `written` are in our own form.

        *nat
        :PREROUTING ACCEPT [0:0]
        :PARAGLIDER-DNAT - [0:0]
        [12:720] -A PREROUTING -j PARAGLIDER-DNAT
        COMMIT

    Tables of other names and everything that is not ours are passed over.
    """
    tables: dict[TableName, TableState] = {}
    existing = []
    for name, lines in _sections(text):
        existing.append(name)
        if name in TableName.__members__.values():
            tables[TableName(name)] = _parse_table(lines, written)
    return State(tables, frozenset(existing))


def _sections(text: str) -> Iterable[tuple[str, list[str]]]:
    name, lines = "", list[str]()
    for line in _whole_lines(text):
        if line.startswith("*"):
            name, lines = line[1:], []
        elif line == "COMMIT":
            yield name, lines
        else:
            lines.append(line)


def _whole_lines(text: str) -> Iterable[str]:
    """Yield the lines of a saved text, those that a quoted comment breaks in one piece."""
    begun: list[str] = []
    for line in text.split("\n"):
        begun.append(line)
        if not _is_open(whole := "\n".join(begun)):
            yield whole
            begun = []
        elif len(whole) - len(begun[0]) > _COMMENT_SIZE:
            # No comment is that long: the quote is a stranger's, in some name, and means nothing.
            yield from begun
            begun = []
    yield from begun


def _is_open(line: str) -> bool:
    return ' "' in line and ' "' in _QUOTED_WORD.sub("", line)


def _parse_table(lines: Iterable[str], written: Collection[str]) -> TableState:
    chains: dict[str, list[RuleLine]] = {}
    hooks = set()
    lengths: dict[str, int] = {}
    guests: dict[str, bool] = {}
    for line in lines:
        if line.startswith(":"):
            chain = line[1:].split(" ", 1)[0]
            if is_own_chain(chain):
                chains[chain] = []
            elif chain in GUEST_CHAINS:
                guests[chain] = False
        elif found := _RULE_LINE.fullmatch(line):
            packets, size_bytes, chain = found.group(1) or 0, found.group(2) or 0, found[3]
            rule = found[4] or ""
            lengths[chain] = position = lengths.get(chain, 0) + 1
            if is_own_chain(chain):
                counters = Counters(int(packets), int(size_bytes))
                rule = rule if rule in written else _canonical(rule)
                chains.setdefault(chain, []).append(RuleLine(rule, counters))
            elif leads_to_us(rule):
                hooks.add(HookLine(chain, position, rule))
            elif position == 1 and GUEST_CHAINS.get(guest := rule.removeprefix("-j ")) == chain:
                guests[guest] = True
    placed = frozenset(_as_last(hook, lengths[hook.chain]) for hook in hooks)
    return TableState({c: tuple(r) for c, r in chains.items()}, placed, guests)


def _as_last(hook: HookLine, length: int) -> HookLine:
    is_last = hook.text == _LAST_JUMP and hook.position == length
    return replace(hook, position=LAST) if is_last else hook


def _canonical(text: str) -> str:
    try:
        return render_rule(parse_rule(text))
    except RuleSyntaxError:
        return text


def leads_to_us(rule: str) -> bool:
    """Return whether a rule's text ends in a jump to a chain of ours."""
    # The cheap test first: a host may have 20,000 rules that are not ours.
    if not is_own_chain(rule.rsplit("-j ", 1)[-1].rsplit("-g ", 1)[-1]):
        return False
    words = _QUOTED_WORD.sub("", rule).split(" ")
    return len(words) > 1 and words[-2] in ("-j", "-g") and is_own_chain(words[-1])
