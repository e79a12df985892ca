"""Probes of connections that say nothing for long."""

from __future__ import annotations

from tests.compose.wire.conversation import Conversation
from tests.compose.wire.look import constant


def test_a_probe_of_an_idle_connection_is_answered(talk: Conversation) -> None:
    """It has the number before the next one and no data (RFC 9293, 3.8.4)."""
    talk.establish()
    probe = talk.from_client("A", seq=talk.client.seq - 1)
    assert constant(probe.arrived) == constant(probe.sent)
    answer = talk.from_backend("A")
    assert constant(answer.arrived) == constant(answer.sent)
    talk.from_client("PA", b"still here")
