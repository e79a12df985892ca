"""The keys of the configuration: what each is for, and which one a misspelt key meant.

The JSON Schema and the messages about missing keys say the same words, from here.
"""

from __future__ import annotations

from collections.abc import Collection

ROOT_KEYS = ("frontend", "frontends")
FRONTEND_KEYS = ("name", "bind", "privateip", "backends")

PURPOSES = {
    "frontend": "one frontend: what clients connect to, and the backends behind it",
    "frontends": "a list of frontends, each with a name of its own",
    "name": "what rules and metrics call the frontend, such as web",
    "bind": "the address and port that clients connect to, such as 192.0.2.10:80",
    "privateip": "the address of this host that backends see, such as 172.19.0.4",
    "backends": "a list of servers, each ADDRESS:PORT, such as 172.19.0.2:5555",
}

SMALLEST_FILE = (
    "frontend: {bind: 192.0.2.10:80, privateip: 172.19.0.4, backends: [172.19.0.2:5555]}"
)


def nearest_key(key: str, known: Collection[str]) -> str | None:
    """Return the known key that `key` was probably meant to be, or None."""
    wanted = "".join(char for char in key[:40].lower() if char.isalnum())
    if wanted in known:
        return wanted
    # Imported late: a file without mistakes does not pay for it.
    from difflib import get_close_matches

    matches = get_close_matches(wanted, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
