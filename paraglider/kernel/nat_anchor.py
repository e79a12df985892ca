"""The NAT anchor: a small nftables table that keeps address translation alive.

    table ip paraglider {
        chain prerouting { type nat hook prerouting priority -99; }
        chain postrouting { type nat hook postrouting priority 101; }
        chain pin { ct state invalid return }
        chain made_mangle { }
    }

It does nothing to a packet. The kernel translates the packets of *established* connections only
while some NAT chain exists; when another program deletes the table that iptables-nft uses (``nft
delete table ip nat``), the two empty chains are left and no connection is lost. The pin does the
same for conntrack. An empty ``made_TABLE`` remembers, across restarts and without a file, which of
iptables' own tables did not exist before, so that `stop` can take them away again.

Only where nf_tables holds the rules: x_tables never drops a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from paraglider.config.model import Family
from paraglider.errors import ParagliderError, PermissionDenied, UnavailableError
from paraglider.kernel.host import grant_mend
from paraglider.kernel.process import Finished, Run, find_program, run_program

TABLE = "paraglider"
# Of its chains, by their hooks: beside those of iptables' own.
PRIORITIES = {"prerouting": -99, "postrouting": 101}
_NFT_FAMILY = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_MODULES = "nf_tables nft_chain_nat nft_ct"
_NEEDED = (*(f"type nat hook {hook}" for hook in PRIORITIES), "ct state invalid")

# What a table of iptables without rules looks like; it may say whose it is.
_BARE_LINE = re.compile(
    r"#.*|table \S+ \S+ \{|chain [A-Z]+ \{|type \w+ hook \w+ priority [\w -]+; policy accept;|\}|"
)


@dataclass(frozen=True, slots=True)
class NatAnchor:
    """The anchor of one family; `nft_path` is None where nft is not installed."""

    family: Family
    nft_path: str | None
    run: Run = run_program

    def read(self) -> str | None:
        """Return the table as nft prints it, None where it is not there."""
        if self.nft_path is None:
            return None
        done = self.run([self.nft_path, "list", "table", self._nft_family, TABLE])
        if done.returncode == 0:
            return done.stdout
        if "No such file or directory" in done.stderr:
            return None
        raise _failure("read", TABLE, done)

    def is_whole(self) -> bool:
        """Return whether everything that keeps translation alive is in place."""
        table = self.read() or ""
        return all(part in table for part in _NEEDED)

    def put(self, made_tables: Iterable[str]) -> None:
        """Create the anchor, or make it whole; `made_tables` are remembered beside those that it
        remembers already. Needs nft."""
        made = sorted({*made_tables, *self.made_tables()})
        chains = [
            *(
                f"chain {hook} {{ type nat hook {hook} priority {priority}; }}"
                for hook, priority in PRIORITIES.items()
            ),
            "chain pin { ct state invalid return; }",
            *(f"chain made_{table} {{ }}" for table in made),
        ]
        name = f"table {self._nft_family} {TABLE}"
        # Declared first, so that there is one to delete; nft applies all of it at once.
        self._apply(f"{name}\ndelete {name}\n{name} {{\n" + "\n".join(chains) + "\n}\n")

    def remove(self) -> None:
        """Delete the anchor, which must be there."""
        self._apply(f"delete table {self._nft_family} {TABLE}\n", "delete")

    def made_tables(self) -> list[str]:
        """Return the tables of iptables that did not exist before ours were applied."""
        return re.findall(r"chain made_(\w+) ", self.read() or "")

    def delete_bare_table(self, name: str) -> None:
        """Delete one of iptables' own tables where nothing is in it but its built-in chains.

        Looked at through nft right before: others may have put there what iptables-save does not
        show (a set, a chain of nftables), or have just come.
        """
        done = self.run([str(self.nft_path), "list", "table", self._nft_family, name])
        lines = (line.strip() for line in done.stdout.split("\n"))
        if done.returncode == 0 and all(_BARE_LINE.fullmatch(line) for line in lines):
            self._apply(f"delete table {self._nft_family} {name}\n", "delete", name)

    @property
    def _nft_family(self) -> str:
        return _NFT_FAMILY[self.family]

    def _apply(self, text: str, action: str = "change", table: str = TABLE) -> None:
        if self.nft_path is None:
            return
        done = self.run([self.nft_path, "-f", "-"], text=text)
        if done.returncode != 0:
            raise _failure(action, table, done)


def _failure(action: str, table: str, done: Finished) -> ParagliderError:
    """Return the error for nft that could not `action` (read, change, delete) `table`."""
    said = re.sub(r"\s+", " ", done.stderr).strip() or f"no message, exit code {done.returncode}"
    message = f"nft could not {action} table {table}: {said}"
    if "not permitted" in said or "Permission denied" in said:
        return PermissionDenied(f"{message}\n{grant_mend('NET_ADMIN')}")
    # Without the module nf_tables, older kernels answer the first question with EINVAL. Where the
    # table is in the same request, ENOENT is a type of chain or an expression that is missing.
    lacking = r"not supported|No such device|cache initialization failed: Invalid argument"
    if action == "change":
        lacking += "|No such file or directory"
    if re.search(lacking, said):
        return UnavailableError(f"{message}\nthe kernel lacks a module: try modprobe -a {_MODULES}")
    return UnavailableError(message)


def find_anchor(family: Family, run: Run = run_program) -> NatAnchor:
    """Return the anchor of `family`; `run` starts nft."""
    return NatAnchor(family, find_program("nft"), run)
