"""Context: what a command works with."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO

from paraglider.config.model import Config
from paraglider.errors import UnavailableError
from paraglider.kernel.host import Host

if TYPE_CHECKING:
    import argparse

    from paraglider.agent.protocol import Answer, Request
    from paraglider.kernel.variant import Choice


_LOOK_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works with."""

    arguments: argparse.Namespace
    environment: Mapping[str, str]
    stdin: BinaryIO
    out: TextIO
    err: TextIO
    host: Host

    def say(self, text: str) -> None:
        """Print a result."""
        print(text, file=self.out, flush=True)

    def report(self, text: str) -> None:
        """Print something to know beside the result. That nobody can read it changes nothing."""
        with contextlib.suppress(OSError):
            print(f"paraglider: {text}", file=self.err, flush=True)

    def load_config(self) -> Config:
        """Return the configuration that the command line and the environment name."""
        from paraglider.config.load import load_config

        path: str | None = self.arguments.config
        return load_config(path, environment=self.environment, stdin=self.stdin)

    def ask(self, request: Request, *, wait_s: float | None = None) -> Answer | None:
        """Return what the agent of this host answers, None where there is none to be asked."""
        from paraglider.agent.client import ANSWER_WAIT_S, ask_agent
        from paraglider.agent.protocol import socket_path

        return ask_agent(socket_path(self.environment), request, wait_s=wait_s or ANSWER_WAIT_S)

    def ask_or_look(self, request: Request) -> tuple[Answer | None, bool]:
        """The same for what can be read without an agent, too: one that does not answer soon is
        reported, and is none; with it comes whether that was so."""
        try:
            return self.ask(request, wait_s=_LOOK_WAIT_S), False
        except UnavailableError as error:
            self.report(f"warning: {error}; showing what the kernel holds")
            return None, True

    def choose_variant(self, *, where_ours_are: bool = False) -> Choice:
        """Return the variant of iptables to use here, or the one that ours are in."""
        from paraglider.kernel.iptables import Variant
        from paraglider.kernel.variant import choose_variant, require_capabilities

        require_capabilities(self.host, Variant.NFT)
        return choose_variant(
            environment=self.environment, host=self.host, where_ours_are=where_ours_are
        )
