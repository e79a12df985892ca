"""Changes of rules, as the kernel tells them of nftables, and as others look for them."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from paraglider.kernel.changes import Changes
from paraglider.kernel.iptables import Variant
from paraglider.kernel.legacy_tables import BLIND_S, LegacyWatch

NEW_RULE, NEW_SET_ELEMENT, NEW_GENERATION = 6, 12, 15  # linux/netfilter/nf_tables.h


def message(kind: int, payload: bytes = bytes(21)) -> bytes:
    """Return a netlink message of nftables, padded as the kernel does."""
    header = struct.pack("=IHHII", 20 + len(payload), 10 << 8 | kind, 0, 0, 0)
    return header + bytes(4) + payload + bytes(-len(payload) % 4)


def generation(pid: int, name: bytes) -> bytes:
    """Return the message that ends a transaction and says who made it."""
    who = struct.pack("=HH", 4 + len(name) + 1, 3) + name + bytes(4 - len(name) % 4)
    return message(NEW_GENERATION, struct.pack("=HH", 8, 2) + struct.pack("!I", pid) + who)


NFT = message(NEW_RULE) + generation(20, b"nft")
OTHER = message(NEW_RULE) + generation(30, b"dockerd")
RESTORE = message(NEW_RULE) + generation(40, b"iptables-nft-re")


class Kernel:
    """The end at which the kernel would be: what is told here is heard."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.here.setblocking(False)
        self.changes = Changes(Variant.NFT, open_feed=lambda: self.here)
        self.first = self.changes.seen()

    def tell(self, *messages: bytes) -> None:
        """Send each as one piece, as the kernel does in groups of its own choice."""
        for each in messages:
            self.there.send(each)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel that has told nothing."""
    kernel = Kernel()
    yield kernel
    kernel.changes.close()
    kernel.there.close()


def test_the_first_answer_is_yes(kernel: Kernel) -> None:
    """Nobody knows what was changed before there was somebody to listen."""
    assert kernel.first == frozenset()
    assert kernel.changes.seen() is None


def test_who_changed_rules_is_named_once(kernel: Kernel) -> None:
    """Also where the kernel tells of several at once, or of one in several pieces."""
    kernel.tell(NFT + OTHER, message(NEW_RULE), generation(20, b"nft"))
    assert kernel.changes.seen() == frozenset({"nft", "dockerd"})
    assert kernel.changes.seen() is None


def test_what_moves_no_rule_is_no_change(kernel: Kernel) -> None:
    """Some hosts change elements of sets all the time."""
    kernel.tell(message(NEW_SET_ELEMENT) + generation(20, b"nft"))
    assert kernel.changes.seen() is None


def test_a_change_is_told_with_its_end(kernel: Kernel) -> None:
    """Not before somebody has been named, and not together with the next."""
    kernel.tell(message(NEW_RULE))
    assert kernel.changes.seen() is None
    kernel.tell(generation(20, b"nft"), message(NEW_SET_ELEMENT) + generation(30, b"dockerd"))
    assert kernel.changes.seen() == frozenset({"nft"})


def test_an_old_kernel_names_nobody(kernel: Kernel) -> None:
    """It is a change nevertheless."""
    kernel.tell(message(NEW_RULE) + message(NEW_GENERATION, b""))
    assert kernel.changes.seen() == frozenset()


def test_a_name_is_fit_for_a_log(kernel: Kernel) -> None:
    """A process may call itself anything."""
    kernel.tell(message(NEW_RULE) + generation(20, b"a\nb\xff\x1b"))
    assert kernel.changes.seen() == frozenset({"a?b\N{REPLACEMENT CHARACTER}?"})


def test_what_one_process_alone_wrote_is_ours(kernel: Kernel) -> None:
    """Three tables are three transactions of it; the elements of a set are nobody's rules."""
    with kernel.changes.ours():
        kernel.tell(RESTORE, message(NEW_SET_ELEMENT) + generation(20, b"nft"), RESTORE + RESTORE)
    assert kernel.changes.seen() is None


def test_what_came_before_is_not_ours(kernel: Kernel) -> None:
    """It was there and not looked at when we began to write."""
    kernel.tell(NFT)
    with kernel.changes.ours():
        kernel.tell(RESTORE)
    assert kernel.changes.seen() == frozenset({"nft"})


def test_what_comes_after_is_not_ours(kernel: Kernel) -> None:
    """Of the same program either."""
    with kernel.changes.ours():
        kernel.tell(RESTORE)
    kernel.tell(RESTORE)
    assert kernel.changes.seen() == frozenset({"iptables-nft-re"})


def test_what_another_wrote_meanwhile_is_seen(kernel: Kernel) -> None:
    """Another of the same name, too: the number of the process tells them apart."""
    with kernel.changes.ours():
        kernel.tell(RESTORE, message(NEW_RULE) + generation(41, b"iptables-nft-re"))
    assert kernel.changes.seen() == frozenset({"iptables-nft-re"})


def test_what_nobody_is_named_for_is_not_ours(kernel: Kernel) -> None:
    """On a kernel that does not say who it was."""
    with kernel.changes.ours():
        kernel.tell(message(NEW_RULE) + message(NEW_GENERATION, b""))
    assert kernel.changes.seen() == frozenset()


def test_what_was_written_before_a_failure_is_seen(kernel: Kernel) -> None:
    """Whether that was us, and how much of it is there, only the rules can say."""

    def fail() -> None:
        with kernel.changes.ours():
            kernel.tell(RESTORE)
            raise OSError("failed")

    with pytest.raises(OSError, match="failed"):
        fail()
    assert kernel.changes.seen() == frozenset({"iptables-nft-re"})


class Overrun(socket.socket):
    """A socket that has just lost what it could not hold."""

    lost = False

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Report a loss once, then what there is."""
        if self.lost:
            self.lost = False
            raise OSError(errno.ENOBUFS, "no buffer space")
        return super().recv(size, flags)


@pytest.mark.parametrize("is_own", [False, True])
def test_what_was_lost_is_a_change(is_own: bool) -> None:
    """More than the socket holds: whatever it was, somebody looks."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Overrun(here.family, here.type, fileno=here.detach()) as feed, there:
        feed.setblocking(False)
        changes = Changes(Variant.NFT, open_feed=lambda: feed)
        changes.seen()
        if is_own:
            with changes.ours():
                there.send(RESTORE)
                feed.lost = True
        else:
            feed.lost = True
        assert changes.seen() is not None
        assert changes.seen() is None


def test_where_the_kernel_lets_nobody_listen_somebody_looks() -> None:
    """Every few seconds, whether anything was changed or not."""
    now = [0.0]
    changes = Changes(Variant.NFT, clock=lambda: now[0], open_feed=lambda: None)
    assert changes.fileno() == -1
    assert changes.seen() is not None
    assert changes.seen() is None
    assert changes.next_s() == BLIND_S
    now[0] = BLIND_S
    assert changes.seen() is not None


class FakeWatch(LegacyWatch):
    """Tables that change when the test says so."""

    is_changed = False

    def look(self) -> bool:
        """Tell of it once."""
        was, self.is_changed = self.is_changed, False
        return was


def test_of_legacy_tables_a_change_is_seen_and_nobody_named() -> None:
    """One's own are not told from another's."""
    watch = FakeWatch()
    changes = Changes(Variant.LEGACY, watch=lambda: watch)
    assert changes.seen() == frozenset()
    assert changes.seen() is None
    with changes.ours():
        watch.is_changed = True
    assert changes.seen() == frozenset()
    assert (changes.fileno(), changes.next_s()) == (-1, watch.next_s())
