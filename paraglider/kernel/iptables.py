"""iptables: reading and writing the tables of one family through one variant of the tools.

Owns how the programs are called and what their errors mean. It decides nothing about rules: text
goes in as it was planned. Exit codes are not trusted (4 alone means four things): what iptables
prints decides, and where that names no cause, no mend is guessed.
"""

from __future__ import annotations

import re
import signal
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
from paraglider.rules.checksum import Chains
from paraglider.rules.ruleset import TableName
from paraglider.rules.state import NOTHING, State, parse_save

# How long iptables-legacy waits for its lock; Docker holds it for milliseconds, firewalls for a few
# seconds while they load.
LOCK_WAIT_S = 10
_TELL_AFTER_S = 1

# More chains than that, and reading all of them takes less time than one program for each.
_MOST_LISTED = 100
#   -A PARAGLIDER-web -p tcp -c 12 720 -j DNAT --to-destination 10.0.0.2:80
_LISTED = re.compile(r"^(-A .*?)-c ([0-9]+) ([0-9]+) (-j .*)$", re.MULTILINE)

# What iptables prints, and what it means. Exit code 4 alone is a lock that is held, a lock file
# that cannot be used, a permission, or whatever nf_tables refuses.
_LOCK_FILE = re.compile(
    r"(?:can't open lock file|Can't lock) (?P<path>\S+): "
    r"(?P<reason>(?!Resource temporarily unavailable)[^\n]+)"
)
# Without the module nf_tables, the kernel answers its first request with one of these two.
_NO_ENGINE = re.compile(
    r"Failed to initialize nft: [^\n]*not supported|(protocol|family) not supported"
    r"|rule set generation id: (Invalid argument|No such device)",
    re.IGNORECASE,
)
#   line 2: CHAIN_DEL failed (Device or resource busy): chain PARAGLIDER-web
_REFUSED = re.compile(r"\b[A-Z]+_[A-Z]+ failed \(([^)]+)\)(?:: (.+))?")
#   Couldn't load match `statistic':No such file or directory
_NOT_LOADED = re.compile(r"Couldn't (?:load|find) (?:match|target) `([a-zA-Z0-9]+)':? ?(.*)")
#   Warning: Extension statistic revision 0 not supported, missing kernel module?
_EXTENSION = re.compile(r"[Ee]xtension ([a-zA-Z0-9]+) revision")
#   iptables-restore: unable to initialize table 'nat'
_NO_TABLE = re.compile(r"unable to initialize table '(\w+)'|`(\w+)': Table does not exist")
# Where an extension is not in the module xt_NAME.
_MODULE_OF = {
    "CONNMARK": "xt_connmark",
    "DNAT": "xt_nat",
    "MARK": "xt_mark",
    "REJECT": "ipt_REJECT ip6t_REJECT",
    "SET": "xt_set",
    "SNAT": "xt_nat",
    "tcp": "xt_tcpudp",
    "udp": "xt_tcpudp",
}
_TRY_MODULES = "try modprobe -a xt_conntrack xt_statistic xt_nat xt_tcpudp ipt_REJECT ip6t_REJECT"
_TRY_AGAIN = "see what else changes the host's rules, then try again"
_TOO_LONG = "the rules are more than the socket takes: sysctl -w net.core.wmem_max=8388608"
# By the errno with which nf_tables refuses a change; any other speaks for itself.
_REFUSAL_MENDS = {
    "Too many links": (
        "chains lead to chains too deep for nf_tables: list fewer networks in allow and deny"
    ),
    "Invalid argument": "the kernel does not take this rule: 'dmesg' may say why",
    "File exists": f"another program made it at the same moment: {_TRY_AGAIN}",
    "Message too long": _TOO_LONG,
}
# By the words of iptables.
_MENDS = {
    r"Message too long": _TOO_LONG,
    r"module xt_set is not loaded": "the kernel lacks a module: try modprobe xt_set",
    r"Set \S+ doesn't exist": f"another program has destroyed this set: {_TRY_AGAIN}",
    r"Couldn't load target `|Chain '\S+' does not exist": (
        f"another program has deleted this chain: {_TRY_AGAIN}"
    ),
    r"Bad rule": f"another program has deleted this rule: {_TRY_AGAIN}",
    r"by that name": (
        f"another program has deleted a chain ({_TRY_AGAIN}), or the kernel may lack a module: "
        f"{_TRY_MODULES}"
    ),
    r"line \d+ failed$": "iptables gives no reason; if the kernel refused the line, 'dmesg' may",
}

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
        # The chain is missing, or something else that the caller's comparison shows.
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
    """Return the error for a failed iptables program: what was tried, what came back, and what to
    do, where the message of iptables names the cause; `text` is what it was to apply."""
    said = done.stderr.strip()
    message = f"'{_command(done)}' {_outcome(done)}: {_one_line(said) or 'no message'}"
    if found := _LOCK_FILE.search(said):
        return UnavailableError(_join(message, _lock_file_mend(found["path"], found["reason"])))
    if "xtables lock" in said or "Can't lock " in said:
        return LockHeldError(
            f"{message}\nanother program is changing the rules and did not finish in time: "
            "see which one with 'fuser -v /run/xtables.lock', then try again"
        )
    if re.search(r"you must be root|permission denied|not permitted", said, re.IGNORECASE):
        return PermissionDenied(f"{message}\n{permission_mend(variant)}")
    if "socket to ipset" in said:
        # Anybody's rule that speaks of a set: iptables asks for its name over a raw socket.
        return PermissionDenied(
            f"{message}\nrules of this host use ipset, and reading them needs CAP_NET_RAW: "
            f"{grant_mend('NET_ADMIN', 'NET_RAW')}"
        )
    if _NO_ENGINE.search(said):
        return NotHereError(f"{message}\nthe kernel lacks nf_tables, or this address family")
    return UnavailableError(_join(f"{message}{_near(said, text)}", _mend(done)))


def permission_mend(variant: Variant) -> str:
    """Return the sentence that says how to get the capabilities that `variant` needs."""
    needed = ("NET_ADMIN", "NET_RAW") if variant is Variant.LEGACY else ("NET_ADMIN",)
    return f"iptables ({variant.value}) needs {' and '.join(needed)}: {grant_mend(*needed)}"


def _command(done: Finished) -> str:
    return " ".join([done.argv[0].rsplit("/", 1)[-1], *done.argv[1:]])


def _family(done: Finished) -> str:
    return "ip6" if done.argv[0].rsplit("/", 1)[-1].startswith("ip6") else "ip"


def _outcome(done: Finished) -> str:
    if done.returncode >= 0:
        return f"failed with exit code {done.returncode}"
    try:
        return f"was ended by {signal.Signals(-done.returncode).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-done.returncode}"


def _join(message: str, mend: str) -> str:
    return f"{message}\n{mend}" if mend else message


def _lock_file_mend(path: str, reason: str) -> str:
    if reason == "Is a directory":
        return (
            "Docker makes a directory where the mounted file is missing: on the host, run "
            f"'rmdir {path} && touch {path}', then start the container again"
        )
    if re.search(r"Read-only|Permission denied|No such file", reason):
        return (
            "iptables (legacy) must be able to write its lock file: "
            "docker run -v /run/xtables.lock:/run/xtables.lock"
        )
    return ""


def _mend(done: Finished) -> str:
    """Return what to do about a failure, empty where its cause is not known."""
    said = done.stderr
    if refused := _REFUSED.search(said):
        return _refusal_mend(done, refused[1], refused[2] or "")
    if found := _NOT_LOADED.search(said):
        name, reason = found[1], found[2]
        if reason == "No such file or directory" and not _EXTENSION.search(said):
            return f"'{name}' is missing in iptables: install the whole package 'iptables'"
        return _missing_extension(name)
    if found := _EXTENSION.search(said):
        return _missing_extension(found[1])
    if found := _NO_TABLE.search(said):
        module = f"{_family(done)}table_{found[1] or found[2]}"
        return (
            f"the kernel lacks this table, or this process may not read it: try modprobe {module}"
        )
    return next((mend for pattern, mend in _MENDS.items() if re.search(pattern, said.strip())), "")


def _refusal_mend(done: Finished, reason: str, what: str) -> str:
    """Return what to do where nf_tables refused a change of `what` for `reason` (an errno)."""
    if reason == "Device or resource busy":
        save = done.argv[0].rsplit("/", 1)[-1].replace("-restore", "-save")
        chain = what.removeprefix("chain ")
        return (
            "rules of another program are in it or lead to it: find them with "
            f"'{save} | grep -e {chain}', delete them, then try again"
        )
    if reason in ("No such file or directory", "Operation not supported"):
        if found := _EXTENSION.search(done.stderr):
            return _missing_extension(found[1])
        return f"the kernel may lack a module: {_TRY_MODULES}"
    return _REFUSAL_MENDS.get(reason, "")


def _missing_extension(name: str) -> str:
    needed = " (balance: source-hash needs it)" if name == "HMARK" else ""
    modules = _MODULE_OF.get(name, f"xt_{name}")
    return f"'{name}' is missing in the kernel: try modprobe -a {modules}{needed}"


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
