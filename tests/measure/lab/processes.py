"""Processes and folders that are gone when the measurement is, also when it is interrupted or killed."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

DEADLINE_S = 30.0
# What a worker may take to end what it has started itself.
WORKER_S_MAX = 5.0
PREFIX = "phalanx-measure-"
PR_SET_PDEATHSIG = 1
INTERRUPTIONS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """The measurement cannot go on; the text says why."""


class Skipped(Exception):
    """Something that is measured against is not installed."""


class Lab:
    """Starts processes and makes folders; leaving it ends and removes all of them. Not for use from several threads."""

    def __init__(self) -> None:
        self.folder: pathlib.Path
        self.children: list[subprocess.Popen[bytes]] = []
        self.workers: list[multiprocessing.Process] = []
        self.owner = os.getpid()

    def __enter__(self) -> Lab:
        sweep()
        for name in INTERRUPTIONS:
            signal.signal(name, interrupted)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if os.getpid() != self.owner:
            return
        # From here on nothing interrupts the cleaning up.
        for name in INTERRUPTIONS:
            signal.signal(name, signal.SIG_IGN)
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.join(WORKER_S_MAX)
            worker.kill()
            worker.join()
        self.end_children()
        shutil.rmtree(self.folder, ignore_errors=True)

    def disown(self) -> None:
        """In a worker: what the parent has started is the parent's to end; the worker ends what it starts from here on."""
        self.children = []
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    def end_children(self) -> None:
        for child in reversed(self.children):
            end(child)

    def subfolder(self, name: str) -> pathlib.Path:
        made = self.folder / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def spawn(self, command: Sequence[str | os.PathLike[str]], log: str, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a process. What it says on standard error, and on standard output unless that is asked for, goes to a file."""
        if not shutil.which(str(command[0])):
            raise Skipped(f"{command[0]} is not installed")
        with open(self.folder / f"{log}.log", "ab") as sink:
            options = {"stdin": subprocess.DEVNULL, "stdout": sink, "stderr": sink, **options}
            with uninterrupted():
                child = subprocess.Popen([str(word) for word in command], preexec_fn=end_with_parent, **options)
                self.children.append(child)
        return child

    def worker(self, target: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
        """Runs a function in a process of its own."""
        process = multiprocessing.Process(target=as_worker, args=(target, *arguments), daemon=True)
        with uninterrupted():
            process.start()
            self.workers.append(process)
        return process

    def said(self, log: str) -> str:
        """The end of what a process said."""
        try:
            return (self.folder / f"{log}.log").read_text(errors="replace")[-2000:]
        except OSError:
            return ""


def interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """An interruption waits: no child may be started and not yet known."""
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)


def end_with_parent() -> None:
    """In a child: the kernel ends it when its parent is gone, however it went. What the parent holds back it does not."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)


def as_worker(target: Callable[..., None], *arguments: Any) -> None:
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    # Ctrl-C reaches the whole group; the parent ends its workers in its own order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # The parent has gone, or listens no more.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        target(*arguments)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ends a process as a crash would; a stopped one ends too."""
    child.kill()
    child.wait()


def sweep() -> None:
    """Removes what measurements left that were killed outright."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not pathlib.Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def until(what: str, condition: Callable[[], object], deadline_s: float = DEADLINE_S, every_s: float = 0.01) -> None:
    """Waits until something holds."""
    ends = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > ends:
            raise Failed(f"in vain waited {deadline_s:.0f} s until {what}")
        time.sleep(every_s)


def run(script: Callable[[], None]) -> None:
    """Runs a measurement; what ends it early is one line and an exit code."""
    try:
        script()
    except Skipped as fault:
        print(f"skipped: {fault}", file=sys.stderr)
    except Failed as fault:
        sys.exit(f"failed: {fault}")
    except KeyboardInterrupt as signalled:
        sys.exit(f"interrupted by {signalled or 'SIGINT'}; everything was ended and removed")
