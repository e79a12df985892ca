"""The least that balances with iptables: three backends, typed by hand.

Nothing of it is the product's. What it costs is the kernel's own part: translating addresses there
and back, and with BY_HAND_RULES one rule in FORWARD, for hosts that drop what nobody accepts.
"""

from __future__ import annotations

from bench.compare.stage import BACKEND_ENDPOINTS, BACKEND_PORT, BIND_ADDRESS, BIND_PORT, PRIVATEIP

_TO_BIND = f"-A PREROUTING -d {BIND_ADDRESS} -p tcp --dport {BIND_PORT}"
_FIRST, _SECOND, _THIRD = BACKEND_ENDPOINTS

TRANSLATION_RULES = f"""\
*nat
{_TO_BIND} -m statistic --mode nth --every 3 --packet 0 -j DNAT --to-destination {_FIRST}
{_TO_BIND} -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination {_SECOND}
{_TO_BIND} -j DNAT --to-destination {_THIRD}
-A POSTROUTING -p tcp --dport {BACKEND_PORT} -j SNAT --to-source {PRIVATEIP} --random-fully
COMMIT
"""
BY_HAND_RULES = f"""\
{TRANSLATION_RULES}*filter
-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT
COMMIT
"""
