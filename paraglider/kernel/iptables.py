"""iptables: reading and writing the tables of one family through one variant of the tools.

Owns how the programs are called and what their errors mean. It decides nothing about rules: text
goes in as it was planned. The order of exit codes is not trusted (4 alone means three things); what
is said decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

from paraglider.config.model import Family
from paraglider.errors import (
    LockHeldError,
    NotHereError,
    ParagliderError,
    PermissionDenied,
    UnavailableError,
)
from paraglider.kernel.host import grant_mend
from paraglider.kernel.process import Finished, Run, find_program, run_program
from paraglider.rules.ruleset import TableName
from paraglider.rules.seal import Chains
from paraglider.rules.state import NOTHING, State, parse_save

# How long iptables-legacy waits for its lock; Docker holds it for milliseconds, firewalls for a few
# seconds while they load.
LOCK_WAIT_S = 10
_TELL_AFTER_S = 1

# More chains than that, and reading all of them takes less time than one program for each.
_MOST_LISTED = 100
#   -A PARAGLIDER-web -p tcp -c 12 720 -j DNAT --to-destination 10.0.0.2:80
_LISTED = re.compile(r"^(-A .*?)-c ([0-9]+) ([0-9]+) (-j .*)$", re.MULTILINE)

_COMMANDS = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}


class Variant(StrEnum):
    """Which of the kernel's two rule engines iptables speaks to."""

    NFT = "nft"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class Iptables:
    """The tools of one variant and one family.

    `save_path` and `restore_path` are the programs; `run` starts them; `lock_wait_s` is how long
    they wait for the lock of legacy, and `report` is told once that they have to.
    """

    variant: Variant
    family: Family
    save_path: str
    restore_path: str
    run: Run = run_program
    lock_wait_s: int = LOCK_WAIT_S
    report: Callable[[str], None] | None = None

    def read_text(self, *options: str) -> str:
        """Return all rules of the family, everybody's, with counters."""
        done = self.run([self.save_path, "--counters", *options])
        if done.returncode != 0:
            raise explain(done, self.variant)
        return done.stdout

    def read_state(self, written: State = NOTHING) -> State:
        """Return what is ours in the kernel, with counters; much sooner where it is what was
        `written`, and that is much."""
        return parse_save(self.read_text(), written.texts())

    def read_chains(self, name: TableName, chains: Collection[str]) -> Chains:
        """Return those `chains` of one table, with counters; without what is not there."""
        if self.variant is Variant.NFT and len(chains) <= _MOST_LISTED:
            text = "".join(self._list_chain(name, chain) for chain in chains)
        else:
            # The kernel knows no other way with legacy; all lines of a chain stand together.
            saved = self.read_text("-t", name.value)
            text = "".join(_cut_out(saved, chain) for chain in chains)
        return parse_save(f"*{name.value}\n{text}COMMIT\n").table(name).chains

    def _list_chain(self, name: TableName, chain: str) -> str:
        argv = [self.restore_path.removesuffix("-restore"), "-t", name.value, "-v", "-S", chain]
        done = self.run(argv)
        # It is not there, or anything else that whoever compares finds out.
        return "" if done.returncode else _LISTED.sub(r"[\2:\3] \1\4", done.stdout)

    def test_restore(self, text: str) -> None:
        """Let iptables-restore read `text` without applying it."""
        self._restore(text, "--test")

    def apply_restore(self, text: str) -> None:
        """Apply `text`; atomic for each table, not for all of them together."""
        self._restore(text)

    def _restore(self, text: str, *options: str) -> None:
        left_s = self.lock_wait_s
        if self.report is not None and left_s > _TELL_AFTER_S:
            # The program says nothing while it waits; a first, short wait is there to be told of.
            left_s -= _TELL_AFTER_S
            try:
                self._restore_within(_TELL_AFTER_S, text, *options)
            except LockHeldError:
                self.report(f"another program holds the lock of iptables: waiting up to {left_s} s")
            else:
                return
        self._restore_within(left_s, text, *options)

    def _restore_within(self, wait_s: int, text: str, *options: str) -> None:
        wait = ["--wait", str(wait_s)]
        argv = [self.restore_path, "--noflush", "--counters", *wait, *options]
        done = self.run(argv, text=text, wait_s=wait_s)
        if done.returncode != 0:
            raise explain(done, self.variant, text)


def _cut_out(saved: str, chain: str) -> str:
    """Return the lines of `chain` in what iptables-save printed."""
    head = f":{chain} - [0:0]\n"
    if f"\n{head}" not in saved:
        return ""
    rule = re.compile(rf"^\[[0-9]+:[0-9]+\] -A {re.escape(chain)} .*\n", re.MULTILINE)
    first = saved.find(f"] -A {chain} ")
    if first < 0:
        return head
    end = start = saved.rfind("\n", 0, first) + 1
    while found := rule.match(saved, end):
        end = found.end()
    return head + saved[start:end]


def find_iptables(variant: Variant, family: Family, run: Run = run_program) -> Iptables:
    """Return the tools of `variant`; NotHereError where they are not installed."""
    save = _find_tool(variant, family, "save", run)
    restore = _find_tool(variant, family, "restore", run)
    if save is None or restore is None:
        raise NotHereError(
            f"{_COMMANDS[family]} for {variant.value} is not installed: install the package "
            "'iptables' (apt-get install iptables)"
        )
    return Iptables(variant, family, save, restore, run)


def default_variant(run: Run = run_program) -> Variant | None:
    """Return the variant that the host's plain `iptables` is, None where there is none.

    It says so itself: ``iptables v1.8.9 (nf_tables)``.
    """
    path = find_program("iptables")
    if path is None:
        return None
    said = run([path, "--version"]).stdout
    return Variant.NFT if "nf_tables" in said else Variant.LEGACY


def _find_tool(variant: Variant, family: Family, action: str, run: Run) -> str | None:
    named = find_program(f"{_COMMANDS[family]}-{variant.value}-{action}")
    if named is not None:
        return named
    # Some distributions install one variant alone, under the plain name.
    is_plain = default_variant(run) is variant
    return find_program(f"{_COMMANDS[family]}-{action}") if is_plain else None


def explain(done: Finished, variant: Variant, text: str = "") -> ParagliderError:
    """Return the error that tells what a failed iptables program lacked, and the mend."""
    said = done.stderr.strip() or f"no message, exit code {done.returncode}"
    told = f"{done.argv[0].rsplit('/', 1)[-1]} failed: {_one_line(said)}"
    if re.search(r"xtables lock|can't open lock file|Can't lock ", said):
        kind = UnavailableError if "open" in said else LockHeldError
        return kind(f"{told}\n{_lock_mend(said)}")
    if re.search(r"you must be root|permission denied|not permitted", said, re.IGNORECASE):
        return PermissionDenied(f"{told}\n{permission_mend(variant)}")
    if "socket to ipset" in said:
        # Anybody's rule that speaks of a set: iptables asks for its name over a raw socket.
        return PermissionDenied(
            f"{told}\nrules here speak of sets (ipset), whose names take NET_RAW: "
            f"{grant_mend('NET_ADMIN', 'NET_RAW')}"
        )
    if re.search(r"Failed to initialize nft|(protocol|family) not supported", said, re.IGNORECASE):
        return NotHereError(f"{told}\nthe kernel lacks nf_tables, or this address family")
    return UnavailableError(f"{told}{_near(said, text)}\n{_mend(said)}")


def permission_mend(variant: Variant) -> str:
    """Return the sentence that says how to get the capabilities that `variant` needs."""
    needed = ("NET_ADMIN", "NET_RAW") if variant is Variant.LEGACY else ("NET_ADMIN",)
    return f"iptables ({variant.value}) needs {' and '.join(needed)}: {grant_mend(*needed)}"


def _lock_mend(said: str) -> str:
    if "open" in said:
        return (
            "iptables (legacy) must be able to write its lock file: "
            "docker run -v /run/xtables.lock:/run/xtables.lock"
        )
    return (
        "another program changes the rules, and did not finish in time: "
        "see which one with 'fuser -v /run/xtables.lock', then try again"
    )


def _mend(said: str) -> str:
    missing = r"(?:Couldn't load (?:match|target) `|[Ee]xtension )([a-zA-Z0-9]+)(?:'| revision)"
    if found := re.search(missing, said):
        name = found[1]
        mend = " (balance: source-hash needs it)" if name == "HMARK" else ""
        return f"'{name}' is missing, in the kernel or in iptables: try modprobe xt_{name}{mend}"
    if "Too many links" in said:
        return "chains lead to chains too deep for nf_tables: list fewer networks in allow and deny"
    if re.search(r"RULE_(APPEND|INSERT) failed|line \d+ failed|by that name|no message", said):
        modules = "xt_conntrack xt_statistic xt_nat xt_tcpudp ipt_REJECT ip6t_REJECT"
        return f"the kernel may lack a module: try modprobe -a {modules}"
    if "too long" in said:
        return "the rules are more than the socket takes: sysctl -w net.core.wmem_max=8388608"
    return "see what else changes the host's rules, then try again"


def _near(said: str, text: str) -> str:
    """Return the numbered lines around the one that iptables-restore names."""
    found = re.search(r"line:? (\d+)", said)
    if not found or not text:
        return ""
    lines = text.split("\n")
    at = int(found[1])
    first, last = max(1, at - 2), min(len(lines), at + 2)
    numbered = (f"\n{'>' if n == at else ' '} {n:5} {lines[n - 1]}" for n in range(first, last + 1))
    return "".join(numbered)


def _one_line(said: str) -> str:
    # The program's name and version, which it puts in front, are known already.
    lines = (re.sub(r"^\S+ v[\d.]+ \(\w+\): *", "", line).strip() for line in said.split("\n"))
    return " ".join(line for line in lines if line and not line.startswith("Try `"))
