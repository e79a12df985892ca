"""docs/performance.md: each bench writes its own section there, between two comments.

    <!-- compare:begin -->
    ...what the last run found...
    <!-- compare:end -->

Owns these comments and nothing else of the page: what stands around them is written by people.
"""

from __future__ import annotations

from pathlib import Path

from bench.command import ROOT, DidNotRun

PAGE = ROOT / "docs" / "performance.md"


def write_section(name: str, text: str, *, page: Path = PAGE) -> None:
    """Put `text` in place of what a section has; DidNotRun where the page has no such section."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->\n"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise DidNotRun(f"{page} has no {begin.strip()} with its end")
    page.write_text(f"{before}{begin}{text.strip()}\n{end}{after}", encoding="utf-8")
