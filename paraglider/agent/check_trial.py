"""Check trial: what HTTPS checks of a configuration could not use on this host.

A child that gives up its rights as the prober does reads the certificates, so that what it finds is
what probes would find: files that are missing, that its user cannot read, that hold no certificate.
For commands alone; the agent learns the same from its prober.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Collection, Sequence

from paraglider.config.model import CheckKind, Config, HttpRequest
from paraglider.errors import ParagliderError
from paraglider.health.probe_result import CannotProbe, clip
from paraglider.health.tls import TlsContexts, load_tls
from paraglider.kernel.privileges import drop_privileges

_TIME_S = 3.0
_CHUNK_BYTES = 1 << 16


def https_findings(config: Config) -> list[str]:
    """Return one sentence for each HTTPS check that cannot be made here, of each frontend."""
    wanted = {
        frontend.name: dict.fromkeys(
            backend.check.http
            for backend in frontend.backends
            if backend.check.kind is CheckKind.HTTPS
        )
        for frontend in config.frontends
    }
    requests = dict.fromkeys(request for found in wanted.values() for request in found)
    errors = dict(zip(requests, _try_all(requests), strict=True))
    findings = (
        f"{name}: its https check cannot be made: {errors[request]}"
        for name, found in wanted.items()
        for request in found
        if errors[request]
    )
    return list(dict.fromkeys(findings))


def _try_all(requests: Collection[HttpRequest]) -> Sequence[str]:
    """Return why each cannot be made, '' where it can, or where that cannot be found out."""
    found: Sequence[str] = ()
    if requests:
        with contextlib.suppress(OSError, ValueError):
            found = _try_in_child(requests)
    return found or [""] * len(requests)


def _try_in_child(requests: Collection[HttpRequest]) -> Sequence[str]:
    """Return the same; nothing where the child could not find out."""
    reading, writing = os.pipe()
    parent, pid = os.getpid(), os.fork()
    if not pid:
        _be_child(writing, requests, parent)
    os.close(writing)
    try:
        answer = _read_all(reading, time.monotonic() + _TIME_S)
    finally:
        os.close(reading)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if answer is None:
        return [f"its certificates could not be read in {_TIME_S:g} s"] * len(requests)
    return [clip(str(reason)) for reason in json.loads(answer or b"[]")]


def _read_all(reading: int, until_s: float) -> bytes | None:
    """Return all that comes until the end, None where that does not come in time."""
    found = b""
    while select.select([reading], [], [], max(0.0, until_s - time.monotonic()))[0]:
        data = os.read(reading, _CHUNK_BYTES)
        if not data:
            return found
        found += data
    return None


def _be_child(writing: int, requests: Collection[HttpRequest], parent: int) -> None:
    """Do what the prober does, in a process that was just forked, and never return."""
    try:
        with contextlib.suppress(CannotProbe):  # found again for each
            load_tls()
        drop_privileges(parent=parent)
        contexts = TlsContexts()
        answer = json.dumps([_try(contexts, request) for request in requests]).encode()
        while answer:
            answer = answer[os.write(writing, answer) :]
    except (ParagliderError, OSError, ValueError):
        pass  # then nothing is known
    finally:
        os._exit(0)


def _try(contexts: TlsContexts, request: HttpRequest) -> str:
    try:
        contexts.find(request)
    except CannotProbe as error:
        return str(error)
    return ""
