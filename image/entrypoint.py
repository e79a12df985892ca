#!/usr/bin/python3 -P
"""Process 1 of the container: one command, or the agent under supervisord.

With arguments it becomes `paraglider ARGUMENTS`. Without, it runs supervisord in this process with
/etc/supervisord.conf, and ends with the agent's own exit code when the agent cannot go
on, so that a container that does not balance never looks alive. It never touches a rule, but for
one case: told to stop when no agent is left to do it, it runs `paraglider stop`. The agent has a
user of its own where that is possible (agent_user.py); this process stays root.

Signals that Docker sends have been held back since before Python started (Dockerfile): for process
1 the kernel discards those that nothing answers yet, and a container told to stop at once would
balance for ten seconds, be killed, and leave its rules.

supervisord itself stays up whatever becomes of its programs, answers SIGHUP by restarting them all,
and writes a file with its process id. The overrides below change these, and nothing else.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import sys
from types import ModuleType

from image.agent_user import prepare_user
from paraglider.cli.log import open_log


class Unused(ModuleType):
    """A module in which every name is found, and is nothing."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    @staticmethod
    def gettempdir() -> str:
        """Answer what supervisord asks at once and never uses: a read-only root has none."""
        return "/"


# supervisord imports these in order to be asked things over a socket, or to make files. Here it
# listens nowhere and makes none, and without them it takes half of the memory.
for unused in (
    *("hashlib", "html", "html.entities", "html.parser", "http", "http.client"),
    *("importlib.metadata", "importlib.resources", "supervisor.xmlrpc", "tempfile"),
    *("xmlrpc", "xmlrpc.client"),
):
    sys.modules[unused] = Unused(unused)

from supervisor import events, loggers  # noqa: E402 - not before these
from supervisor.medusa import asyncore_25 as asyncore  # noqa: E402
from supervisor.options import ServerOptions, SignalReceiver, decode_wait_status  # noqa: E402
from supervisor.process import Subprocess  # noqa: E402
from supervisor.states import SupervisorStates  # noqa: E402
from supervisor.supervisord import Supervisor  # noqa: E402

CONFIG = "/etc/supervisord.conf"
PROGRAM = "paraglider"
# As in the Dockerfile.
HELD_BACK = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
STOPS = HELD_BACK - {signal.SIGHUP}
FOR_AGENT = {signal.SIGHUP, signal.SIGTERM}
# Their default action would end a process 1 that is none to the kernel (`docker run --init`,
# `--pid=host`); supervisord opens its logs anew at SIGUSR2, and has none.
MEANINGLESS = (
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
    *(signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
# For an agent to take its rules away. Below the ten seconds that `docker stop` allows, so that what
# is left can still be removed.
STOP_S = 5
# For `paraglider stop` after that, where a program hangs.
STOP_AGAIN_S = 3


def say(text: str) -> None:
    """Write one line to the container's log."""
    print(f"paraglider: {text}", file=sys.stderr, flush=True)


class Output(loggers.Handler):  # type: ignore[misc]
    """What the agent says, on its way to the container's log: a reader who does not read must not
    keep process 1 from hearing a stop."""

    def __init__(self, filename: str, _mode: str = "ab") -> None:
        super().__init__()
        self.stream = {"/dev/fd/1": sys.stdout, "/dev/fd/2": sys.stderr}.get(filename)

    def emit(self, record: loggers.LogRecord) -> None:
        if self.stream is not None and isinstance(record.msg, bytes):
            self.stream.write(record.msg.decode(errors="backslashreplace"))

    def flush(self) -> None:
        """Do nothing: the stream keeps no whole line."""

    def close(self) -> None:
        """Leave the streams open: they are those of process 1."""

    reopen = remove = flush


class Wakeup:
    """A pipe that ends supervisord's wait at once.

    Its loop waits up to a second for output before it looks at signals and dead programs, and
    Python goes on waiting after a signal. Three such waits make up an ordinary stop.
    """

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __call__(self, _event: object = None) -> None:
        os.write(self.write_fd, b"\0")

    # What supervisord's loop asks of everything that it waits for.

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        os.read(self.read_fd, 4096)

    def handle_error(self) -> None:
        raise  # noqa: PLE0704 - called from within supervisord's `except`


class Options(ServerOptions):  # type: ignore[misc]
    """supervisord's settings, and its view of the operating system."""

    signal_receiver: SignalReceiver
    pidhistory: dict[int, Subprocess]

    def __init__(self) -> None:
        super().__init__()
        self.wakeup = Wakeup()
        self.exit_code = 0
        self.stop_is_due = False

    def set_uid_or_exit(self) -> None:
        """Stay who we are: without CAP_SETUID nothing else works, and root needs no warning."""

    def write_pidfile(self) -> None:
        """Write none: process 1 needs no file to be found, and the root may be read-only."""
        asyncore.socket_map[self.wakeup.read_fd] = self.wakeup
        # Subscribed here because supervisord drops all subscriptions when it starts.
        events.subscribe(events.ProcessStateEvent, self.wakeup)
        events.subscribe(events.ProcessStateFatalEvent, self.give_up)
        self.wakeup()  # the first wait comes before the first start

    def setsignals(self) -> None:
        super().setsignals()
        for number in MEANINGLESS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self.wakeup.write_fd, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def fork(self) -> int:
        """Start the agent with its signals held back until it waits for them: between fork and
        exec the handlers of this process would swallow them, and later SIGHUP would end it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, FOR_AGENT)
        pid: int = super().fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_AGENT)
        return pid

    def get_signal(self) -> int | None:
        """Pass SIGHUP on to the agent, which takes the new file without letting go of a rule."""
        received: int | None = super().get_signal()
        if received == signal.SIGHUP:
            self.pass_on(received)
            return None
        if received in STOPS:
            if self.stop_is_due:
                # It lets connections end, and supervisord waits for it; told again it ends at once.
                self.pass_on(signal.SIGTERM)
            self.stop_is_due = True
        return received

    def pass_on(self, number: int) -> None:
        """Send a signal to the agent, where there is one."""
        for process in self.pidhistory.values():
            process.signal(number)

    def waitpid(self) -> tuple[int | None, int | None]:
        """Note how the agent ended: supervisord forgets the code of one that ends in a second."""
        pid, status = super().waitpid()
        process = self.pidhistory.get(pid)
        if process is not None and status is not None:
            self.note_end(process, status)
        return pid, status

    def note_end(self, process: Subprocess, status: int) -> None:
        """Keep the exit code (128 + N for signal N), and end with it where it is a last word."""
        code, how = decode_wait_status(status)
        self.exit_code = code if code >= 0 else 128 + os.WTERMSIG(status)
        if code in process.config.exitcodes:
            self.mood = SupervisorStates.SHUTDOWN
            # An agent that could not take its rules away leaves that to a second try.
            self.stop_is_due = self.stop_is_due and code != 0
        elif self.mood == SupervisorStates.RUNNING:
            say(f"the agent ended ({how}); the rules stay as they are, and a new one takes over")

    def give_up(self, event: events.ProcessStateFatalEvent) -> None:
        """End when the agent does not stay up; the rules stay as they are."""
        if self.mood == SupervisorStates.RUNNING:
            say(f"giving up on the agent: {event.process.spawnerr}; the rules stay as they are")
            self.exit_code = self.exit_code or 1
            self.mood = SupervisorStates.SHUTDOWN


def drain_s(text: str) -> int:
    """Return the seconds, rounded up, that an agent told to stop lets connections end in.

    What is wrong with PARAGLIDER_DRAIN is for the agent to say. Not parse_duration: its imports
    would be two of the megabytes that process 1 keeps.

    >>> drain_s("1.5m"), drain_s("500ms"), drain_s("1d"), drain_s("")
    (90, 1, 86400, 0)
    """
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", text.strip())
    return math.ceil(float(found[1]) * units[found[2]]) if found else 0


def as_agent() -> list[str]:
    """Return the command that makes a process the agent's, before the agent's own."""
    command, note = prepare_user(os.environ)
    if note:
        say(note)
    return command


def supervise() -> int:
    """Run the agent until it is over; return the exit code of the container."""
    sys.stdout, sys.stderr = open_log(sys.stdout), open_log(sys.stderr)
    loggers.FileHandler = Output
    options = Options()
    # The %(names)s in the configuration.
    options.environ_expansions.update(
        as_agent=" ".join(as_agent()),
        stop_s=STOP_S + drain_s(os.environ.get("PARAGLIDER_DRAIN", "")),
    )
    options.realize(["--configuration", CONFIG], doc=__doc__)
    options.first = True
    options.test = False
    with contextlib.suppress(asyncore.ExitNow):
        Supervisor(options).main()
    if options.stop_is_due:
        say("told to stop with no agent running: removing the rules")
        return stop_here(options.exit_code)
    return options.exit_code


def stop_here(agent_code: int) -> int:
    """Run `paraglider stop` within the time that is left; return its exit code, or the agent's."""
    import subprocess  # not before: process 1 would keep it all its life

    try:
        code = subprocess.run([PROGRAM, "stop"], timeout=STOP_AGAIN_S, check=False).returncode
    except subprocess.TimeoutExpired:
        pass
    else:
        return code if code >= 0 else 128 - code
    say(
        f"'paraglider stop' did not end within {STOP_AGAIN_S} s: rules may be left, remove them "
        "with 'paraglider stop' when iptables, nft and ipset work again"
    )
    return agent_code or 69


def main() -> int:
    """Do what the container was started for."""
    if len(sys.argv) > 1:
        if pending := signal.sigpending() & STOPS:
            return 128 + int(min(pending))
        command = [PROGRAM, *sys.argv[1:]]
        if "run" in command:
            command = [*as_agent(), *command]  # it takes the signals itself
        else:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    return supervise()


if __name__ == "__main__":
    raise SystemExit(main())
