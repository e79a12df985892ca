"""Protocol: what a command says to the agent, and what it answers.

One connection to a unix socket is one request and one answer, each a JSON object on a line of its
own (docs/agent.md is the reference):

    {"command": "drain", "backend": "10.0.0.11:8080", "frontend": "web", "deadline_s": 30}
    {"exit_code": 0, "text": "web: 10.0.0.11:8080 is draining; 12 connections left"}

Who may open the socket may order anything; nothing that is said there reaches a rule as text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from paraglider.config.variables import RUN

SOCKET_NAME = "admin.sock"
FOLDER = "/run/paraglider"
MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked. `backend` is ADDRESS:PORT, an address or a host name; `frontend` is a name,
    '' for all that have the backend; `deadline_s` counts from now, None is never."""

    command: str
    backend: str = ""
    frontend: str = ""
    deadline_s: float | None = None
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: the exit code of the command, and what it prints."""

    exit_code: int
    text: str


def socket_path(environment: Mapping[str, str]) -> str:
    """Return where the agent's socket is: in PARAGLIDER_RUN, else in /run/paraglider."""
    return os.path.join(environment.get(RUN) or FOLDER, SOCKET_NAME)


def encode(message: Request | Answer) -> bytes:
    """Return the line that says `message`."""
    return json.dumps(asdict(message), ensure_ascii=True).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request; ValueError, with a sentence for the client, where it is none."""
    document = _object(line)
    known = {field.name for field in fields(Request)}
    if unknown := sorted(set(document) - known):
        raise ValueError(
            f"unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    request = Request(**document) if "command" in document else None
    if request is None:
        raise ValueError("'command' is missing")
    texts = (request.command, request.backend, request.frontend)
    deadline = request.deadline_s
    is_number = isinstance(deadline, (int, float)) and not isinstance(deadline, bool)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("command, backend and frontend must be strings")
    if deadline is not None and not (is_number and 0 <= deadline <= 86400):
        raise ValueError("deadline_s must be a number of seconds from 0 to 86400")
    if not isinstance(request.is_json, bool):
        raise ValueError("is_json must be true or false")
    return request


def decode_answer(line: bytes) -> Answer:
    """Return the answer; ValueError where it is none."""
    document = _object(line)
    code, text = document.get("exit_code"), document.get("text")
    if not isinstance(code, int) or not isinstance(text, str):
        raise ValueError("not an answer")
    return Answer(code, text)


def _object(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON: one object on one line is expected") from error
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document
