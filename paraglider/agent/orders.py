"""Orders: what commands ask of the agent, and the sentences that answer them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from paraglider.agent.agent import Agent
from paraglider.agent.metrics import metrics_text
from paraglider.agent.protocol import Answer, Request
from paraglider.agent.status import Status
from paraglider.agent.status_text import status_json, status_text
from paraglider.config.quote import quoted
from paraglider.errors import ParagliderError, UnavailableError, UsageError, explain
from paraglider.health.service import Pair

_DONE = {
    "drain": "is draining",
    "undrain": "back in rotation while its checks pass",
    "disable": "is disabled",
    "enable": "enabled; its checks decide its health",
}


class Orders:
    """Answers requests; `view` returns the status, `reload` reads the configuration again."""

    def __init__(
        self,
        agent: Agent,
        *,
        view: Callable[[], Status],
        reload: Callable[[str], str],
    ) -> None:
        self._agent = agent
        self._view = view
        self._reload = reload

    def answer(self, request: Request) -> Answer:
        """Do what is asked, and say what came of it."""
        try:
            return self._answer(request)
        except ParagliderError as error:
            return Answer(error.exit_code, str(error))
        except OSError as error:
            return Answer(UnavailableError.exit_code, f"{request.command} failed: {explain(error)}")

    def _answer(self, request: Request) -> Answer:
        match request.command:
            case "status":
                status = self._view()
                text = status_json(status) if request.is_json else status_text(status)
                return Answer(status.exit_code, text)
            case "metrics":
                return Answer(0, metrics_text(self._view()))
            case "reload":
                return Answer(0, self._reload("reload"))
            case "drain" | "undrain" | "disable" | "enable":
                return Answer(0, self._order(request))
        raise UsageError(f"no such request: {quoted(request.command)}")

    def _order(self, request: Request) -> str:
        pairs = self._agent.find(request.backend, request.frontend)
        self._agent.order(request.command, pairs, deadline_s=request.deadline_s)
        is_out = request.command in ("drain", "disable")
        open_now, problem = self._count(pairs) if is_out else ({}, "")
        lines = []
        for pair in pairs:
            left = open_now.get(pair, 0)
            ends = f"; {left} connection{'s' * (left != 1)} left"
            if problem:
                ends = "; its connections continue"
            if request.deadline_s is not None:
                ends += f", cut in {request.deadline_s:g} s"
            name = self._agent.name_of(pair)
            lines.append(f"{name}: {pair[1]} {_DONE[request.command]}{ends if is_out else ''}")
        return "\n".join([*lines, problem] if problem else lines)

    def _count(self, pairs: Collection[Pair]) -> tuple[Mapping[Pair, int], str]:
        """Return how many connections each has, and why they could not be counted: what was ordered
        is done all the same."""
        try:
            return self._agent.count(pairs), ""
        except (ParagliderError, OSError) as error:
            return {}, f"the connections could not be counted: {explain(error)}"
