"""A client for tests: connections one after another, and who answered them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from paraglider.lab.results import Answer, Results
from paraglider.lab.wire import describe, open_connection

RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits.

    `timeout_s` is for one answer. Attempts that fail before the first success are tried again for
    `wait_s` and do not count. `within_s` bounds everything: what is not tried by then has failed.
    """

    timeout_s: float = 5.0
    wait_s: float = 0.0
    within_s: float = 60.0


def connect_many(
    host: str, port: int, *, count: int, patience: Patience, source: str = ""
) -> Results:
    """Make `count` connections one after another; each ends as an answer or as a failure.

    `source` is the own address that they come from, '' for the one that the host chooses.
    """
    answers: list[Answer] = []
    failures: list[str] = []
    begin = time.monotonic()
    while len(answers) + len(failures) < count:
        elapsed_s = time.monotonic() - begin
        if elapsed_s >= patience.within_s:
            untried = count - len(answers) - len(failures)
            failures += [f"not tried: {patience.within_s:g} s were over"] * untried
            break
        try:
            connection, answer = open_connection(
                host, port, timeout_s=patience.timeout_s, source=source
            )
        except (OSError, ValueError) as error:
            if answers or failures or elapsed_s >= patience.wait_s:
                failures.append(describe(error))
            else:
                time.sleep(RETRY_S)  # nobody is told when somebody begins to listen
        else:
            connection.close()
            answers.append(answer)
    return Results(tuple(answers), tuple(failures))
