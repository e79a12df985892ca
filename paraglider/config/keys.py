"""The keys of the configuration: what each is for, and which one a misspelt key meant.

The JSON Schema and the messages about missing keys and values say the same words, from here.
"""

from __future__ import annotations

from collections.abc import Collection

ROOT_KEYS = {
    "frontend": "one frontend: what clients connect to, and the backends behind it",
    "frontends": "a list of frontends, each with a name of its own",
}

FRONTEND_KEYS = {
    "name": "what rules and metrics call the frontend, such as web",
    "bind": "the address and port that clients connect to, such as 192.0.2.10:80, or a list",
    "protocol": "the protocol of connections: tcp, udp or tcp+udp",
    "privateip": "the address of this host that backends see, such as 172.19.0.4, or auto: the"
    " kernel chooses it, or keep: they see the client",
    "backends": "a list of servers, each ADDRESS:PORT or NAME:PORT, such as 172.19.0.2:5555",
    "balance": "the load-balancing method: round-robin, random, source-hash or least-connections",
    "hash_key": "what source-hash hashes: source or source,port",
    "affinity": "how long a client comes back to the backend that it had last, such as 3h",
    "check": "how backends are probed: tcp, http, https, none, or a mapping that says more",
    "on_down": "what happens to the connections of a backend that goes down: cut or keep",
    "no_backend": "what happens to connections while no backend is available: reject or serve-all",
    "quorum": "how many backends, backups aside, must be up for them to be used, such as 2",
    "slow_start": "how long a backend that came back takes to its full share, such as 30s",
    "resolve": "how often host names are looked up again, such as 5s",
    "hold": "how long an address stays that is missing from the answers for its name, such as 30s",
    "return_path": "how answers are routed: policy, by this host's rules for the address that the"
    " client connected to, or plain, as other packets of the backend",
    "allow": "the clients that may connect, and no others: a list such as [10.0.0.0/8]",
    "deny": "the clients that may not connect: a list such as [192.0.2.7, 198.51.100.0/24]",
    "max_connections": "how many connections a client may have at a time, such as 100",
    "rate": "how many connections a client may open in a time, such as 100/s",
    "refuse": "what refused clients get: reset, which is an answer, or drop, which is none",
}
REQUIRED_KEYS = ("name", "bind", "privateip", "backends")
# Which clients may connect, and what those get that may not.
ACCESS_KEYS = ("allow", "deny", "max_connections", "rate", "refuse")

BACKEND_KEYS = {
    "address": "the server, as ADDRESS:PORT or NAME:PORT, such as 172.19.0.2:5555",
    "weight": "its share of new connections relative to other backends: 0 to 1000, such as 3",
    "backup": "whether it gets connections only while no other backend can: true or false",
    "check": "what differs from the frontend's check: its type, or a mapping of its keys",
    "max_connections": "the most connections it may have, such as 1000",
}

CHECK_KEYS = {
    "type": "how a backend is probed: tcp, http, https or none",
    "path": "what is asked for over HTTP, such as /healthz",
    "host": "the Host header, such as example.org",
    "headers": "headers that are sent, as names and values, such as {X-Probe: paraglider}",
    "method": "how it is asked for: GET, HEAD or OPTIONS",
    "status": "the answers that are good, such as 200-399 or [200, 204]",
    "body": "text that must be in the body of the answer, such as ok",
    "verify": "whether the certificate is verified: true or false",
    "ca": "the file of the authority that is trusted, such as /etc/paraglider/ca.pem",
    "sni": "the server name in TLS, such as example.org; that of host if not given",
    "send": r"what is sent once connected, such as PING\r\n or \x00\x01",
    "expect": r"what must be in the answer, such as +PONG or \xff",
    "port": "the port that is probed, such as 8080; the backend's if not given",
    "address": "the address that is probed, such as 172.19.0.9; the backend's if not given",
    "interval": "the time from probe to probe, such as 2s",
    "timeout": "how long a probe may take, such as 1s",
    "rise": "how many good probes in a row bring a backend up, such as 2",
    "fall": "how many bad probes in a row take a backend down, such as 3",
    "start": "whether a backend gets connections before its probes have decided: up or down",
}
# These name their place also where they stand elsewhere; others (`port`) may mean anything.
_OF_A_CHECK = CHECK_KEYS.keys() - {"type", "host", "port", "address", "start"}

QUORUM_KEYS = {
    "live": "how many backends, backups aside, must be up for them to be used, such as 2",
    "hysteresis": "how many fewer lose the quorum, and how many more win it back, such as 1",
}

SMALLEST_FILE = (
    "frontend: {bind: 192.0.2.10:80, privateip: 172.19.0.4, backends: [172.19.0.2:5555]}"
)


def home_of(key: str, known: Collection[str]) -> str | None:
    """Return under which of the keys `known` here `key` belongs, if it does under one."""
    if "frontend" in known and key in FRONTEND_KEYS:
        return "frontend"
    return "check" if "check" in known and key in _OF_A_CHECK else None


def nearest_key(key: str, known: Collection[str]) -> str | None:
    """Return the known key that `key` was probably meant to be, or None."""
    wanted = "".join(char for char in key[:40].lower() if char.isalnum())
    if wanted in known:
        return wanted
    # Imported late: a file without mistakes does not pay for it.
    from difflib import get_close_matches

    matches = get_close_matches(wanted, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
