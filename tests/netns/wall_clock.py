"""``python -m tests.netns.wall_clock FILE ARGUMENTS``: paraglider, on a wall clock that jumps.

FILE has the seconds that the wall clock is ahead, from the next look on. Other clocks are as ever.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main() -> int:
    """Run ``paraglider ARGUMENTS``."""
    ahead, real = Path(sys.argv[1]), time.time
    # Empty while somebody writes it.
    time.time = lambda: real() + float(ahead.read_text() or 0)
    from paraglider.cli.main import main as run  # it takes the clock as it finds it

    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
