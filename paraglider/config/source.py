"""What backends see as the source of connections, where it is more than one address.

Sample input, behind ``privateip:``; each item of a list is an address or a range::

    auto            172.19.0.4-172.19.0.9
    keep            [172.19.0.4-172.19.0.9, 172.19.1.1, "fd00::4"]

Owns the keeping apart and the merging of ranges. One address alone is frontend.py's to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from paraglider.config.address import ADDRESS_PATTERN, Refused, Role, parse_address
from paraglider.config.clients import AddressRange, Source, SourceKind
from paraglider.config.document import Document, Text
from paraglider.config.draft import SourceDraft
from paraglider.config.keys import FRONTEND_KEYS
from paraglider.config.model import Address
from paraglider.config.problems import Place, Problems
from paraglider.config.quote import quoted
from paraglider.config.value import draft_value, read_texts

# Each has 64,512 ports for each backend, and each must be an address of this host.
MAX_ADDRESSES = 256

WORDS = {kind.value: kind for kind in (SourceKind.AUTO, SourceKind.KEEP)}


def read_source(document: Document, problems: Problems, place: Place) -> SourceDraft | None:
    """Read the list that is next; None once a problem with it is told."""
    wanted = FRONTEND_KEYS["privateip"]
    texts = read_texts(document, problems, place, wanted, MAX_ADDRESSES)
    return draft_ranges(texts, place, problems)


def draft_source(text: Text, place: Place, problems: Problems) -> SourceDraft | None:
    """Return what `text` says: a word, an address or a range. None once it is refused."""
    if text.value in WORDS:
        return SourceDraft(WORDS[text.value], (), place)
    return draft_ranges([(text, place)], place, problems)


def draft_ranges(
    texts: Iterable[tuple[Text, Place]], place: Place, problems: Problems
) -> SourceDraft | None:
    """Return the addresses and ranges that `texts` are. None once one of them is refused."""
    before = problems.count
    found: list[tuple[AddressRange, Place]] = []
    count = 0
    for text, item in texts:
        if (drafted := draft_value(text, parse_range, item, problems)) is None:
            continue
        range_ = drafted[0]
        count += int(range_[1]) - int(range_[0]) + 1
        if count > MAX_ADDRESSES:
            message = f"more than {MAX_ADDRESSES} addresses, each of which must be this host's"
            problems.add(item, f"{message}; write fewer")
        elif known := next((known for known in found if _overlap(known[0], range_)), None):
            message = f"{Source(SourceKind.ADDRESS, (range_,))} is listed already: {known[1]}"
            problems.add(item, f"{message}; list every address once")
        else:
            found.append(drafted)
    if problems.count > before or not found:
        return None
    return SourceDraft(SourceKind.ADDRESS, tuple(found), place)


def parse_range(text: str) -> AddressRange:
    """Parse an address or a range of addresses. Raises Refused."""
    if text in WORDS:
        raise Refused(f"{quoted(text)} stands alone, not in a list: privateip: {text}")
    head, dash, tail = text.partition("-")
    if not dash or re.fullmatch(ADDRESS_PATTERN, head) is None:
        address = _parse_single(text)
        return address, address
    first, last = parse_address(head, Role.PRIVATEIP), parse_address(tail, Role.PRIVATEIP)
    if first.version != last.version:
        raise Refused(f"{first} and {last} are of two families; write a range of one")
    if int(first) > int(last):
        raise Refused(f"{first}-{last} ends before it begins; write {last}-{first}")
    if first == last:
        raise Refused(f"{first}-{last} is one address; write {first}")
    return first, last


def _parse_single(text: str) -> Address:
    try:
        return parse_address(text, Role.PRIVATEIP)
    except Refused as refused:
        if re.fullmatch(r"[A-Za-z_-]{1,40}", text):  # a word, but not ours
            raise Refused(f"{refused}, or {' or '.join(WORDS)}") from None
        raise


def _overlap(one: AddressRange, other: AddressRange) -> bool:
    return (
        one[0].version == other[0].version
        and int(one[0]) <= int(other[1])
        and int(other[0]) <= int(one[1])
    )
