"""What tests of configuration files share: the sample of the seed, and how problems are read."""

from __future__ import annotations

import pytest

from paraglider.config.parse import parse_config
from paraglider.errors import ConfigError

SEED_SAMPLE = b"""\
frontend:
  bind: 166.1.101.2:4444
  privateip: 172.19.0.4
  backends:
    - 172.19.0.2:5555
    - 172.19.0.3:5555
    - 172.19.0.6:5555
"""


def problems_of(text: bytes | str) -> list[str]:
    """Return the problems of a file named f, as they are told."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text if isinstance(text, bytes) else text.encode(), source="f")
    return [str(problem) for problem in caught.value.problems]
