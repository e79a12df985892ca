"""Which addresses are this host's, and when that is asked again."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from paraglider.config.model import Address
from paraglider.kernel.routes import LocalAddresses, find_local, find_routes

_LOOPBACK = ip_address("127.0.0.1")
_OTHER = ip_address("127.0.0.2")


class _Kernel:
    """Knows which addresses are local, and counts how often it was asked."""

    def __init__(self, *local: Address) -> None:
        self.local = set(local)
        self.asked = 0

    def find(self, addresses: Iterable[Address]) -> frozenset[Address]:
        """Return those of `addresses` that are."""
        self.asked += 1
        return frozenset(addresses) & self.local


def test_the_kernel_tells_what_is_local() -> None:
    """All of 127.0.0.0/8 is, by the loopback interface; a name server elsewhere is not."""
    elsewhere = ip_address("192.0.2.201")
    assert find_local([_LOOPBACK, elsewhere, _OTHER]) == {_LOOPBACK, _OTHER}
    routes = dict(find_routes([_LOOPBACK, elsewhere]))
    assert routes[_LOOPBACK].interface == "lo"
    assert elsewhere not in routes or not routes[elsewhere].is_local


def test_an_address_is_asked_for_once_until_something_changes() -> None:
    """With a thousand backends each decision would otherwise cost a thousand questions."""
    kernel = _Kernel(_LOOPBACK)
    addresses = LocalAddresses(kernel.find)
    assert addresses.listen() >= 0
    assert addresses.among([_LOOPBACK, _OTHER]) == {_LOOPBACK}
    assert addresses.among([_OTHER, _LOOPBACK]) == {_LOOPBACK}
    assert kernel.asked == 1
    kernel.local = {_OTHER}
    addresses.hear()
    assert addresses.among([_LOOPBACK, _OTHER]) == {_OTHER}
    assert kernel.asked == 2
    addresses.close()


def test_without_news_of_the_kernel_it_is_asked_each_time() -> None:
    """Nothing that was once so is taken to be so for ever."""
    kernel = _Kernel(_LOOPBACK)
    addresses = LocalAddresses(kernel.find)
    assert addresses.among([_LOOPBACK]) == {_LOOPBACK}
    kernel.local = set()
    assert addresses.among([_LOOPBACK]) == frozenset()
