"""What is said over the admin socket: what is right is read back, what is wrong is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraglider.agent.protocol import (
    Answer,
    Request,
    decode_answer,
    decode_request,
    encode,
    socket_path,
)

_requests = st.builds(
    Request,
    command=st.text(),
    backend=st.text(),
    frontend=st.text(),
    deadline_s=st.none() | st.floats(0, 86400) | st.integers(0, 86400),
    is_json=st.booleans(),
)


@given(_requests)
def test_a_request_reads_back_as_it_was_written(request: Request) -> None:
    """In one line."""
    line = encode(request)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request


@given(st.builds(Answer, st.integers(0, 255), st.text()))
def test_an_answer_reads_back_as_it_was_written(answer: Answer) -> None:
    """In one line, however many its text has."""
    line = encode(answer)
    assert line.count(b"\n") == 1
    assert decode_answer(line) == answer


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"drain\n", "not JSON: one object on one line is expected"),
        (b"[" * 60_000, "not JSON: one object on one line is expected"),
        (b"[]", "not a JSON object"),
        (b"{}", "'command' is missing"),
        (b'{"command": 1}', "command, backend and frontend must be strings"),
        (b'{"command": "drain", "deadline_s": -1}', "deadline_s must be a number"),
        (b'{"command": "drain", "deadline_s": true}', "deadline_s must be a number"),
        (b'{"command": "drain", "deadline_s": NaN}', "deadline_s must be a number"),
        (b'{"command": "status", "is_json": 1}', "is_json must be true or false"),
        (b'{"command": "status", "shell": "x"}', "unknown keys: shell; known are "),
    ],
)
def test_what_is_no_request_is_told_why(line: bytes, reason: str) -> None:
    """In words for whoever sent it."""
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        decode_request(line)


@given(st.binary())
def test_whatever_arrives_is_a_request_or_a_value_error(line: bytes) -> None:
    """Nothing else ever comes out of it."""
    try:
        decode_request(line)
    except ValueError:
        return


def test_the_socket_is_where_the_environment_says() -> None:
    """Or in /run."""
    assert socket_path({}) == "/run/paraglider/admin.sock"
    assert socket_path({"PARAGLIDER_RUN": "/srv/x"}) == "/srv/x/admin.sock"
