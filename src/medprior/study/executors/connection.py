"""To and from a Ray cluster. Nothing is told to anybody else, and the signals of this process stay its own."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medprior.errors import MedpriorError, RunError, SettingsError

LOCAL = "ray"
"""The address of a cluster that runs on this machine, or that RAY_ADDRESS names, else of a new one."""

KNOCK_SECONDS = 10

ATTEMPTS = 3
"""A cluster that is busy may take longer to start what serves one driver than it waits for it itself."""


def check_installed() -> None:
    """Refuse a cluster where Ray, or the part of it that speaks to one elsewhere, is not installed.

    Raises:
        SettingsError: it is not.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("grpc") is None:
        what = "Ray, which works on clusters, is not installed"
        raise SettingsError(what, where="setting study.workers", do="pip install 'medprior[ray]'")


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at `address`; of a program that is connected already, as it is.

    Raises:
        RunError: nobody answers there.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _own_signals():
        import ray

        before = ray.is_initialized()
        if not before:
            _connect(ray, address)
    try:
        yield ray
    finally:
        if not before:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, **quiet)
        else:
            _knock(address)
            patiently(lambda: ray.init(address, **quiet))
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        what = f"the Ray cluster cannot be reached: {_reason(error)}"
        do = "See that it runs (ray status), with the Ray and the Python of this machine; finished cells are kept"
        raise RunError(what, where=address, do=do) from None


def patiently(connect: Callable[[], object]) -> None:
    """Connect, again where a cluster gave up before it had begun.

    Raises:
        ConnectionAbortedError: it did so `ATTEMPTS` times.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            connect()
            return
        except ConnectionAbortedError:
            if not left:
                raise


def _knock(address: str) -> None:
    """Fail at once where no port is open; Ray itself asks for half a minute."""
    place = urlsplit(address)
    socket.create_connection((place.hostname or "", place.port or 0), KNOCK_SECONDS).close()


@contextmanager
def said_plainly(ray: Any, out: Path) -> Iterator[None]:
    """Turn what goes wrong on a cluster into errors that say what to do; errors of medprior come home as they are."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MedpriorError):
            raise error.cause from None
        if "No module named 'medprior" not in str(error):
            raise
        do = "Install the same medprior on every machine of the cluster"
        raise RunError("a machine of the cluster has no medprior, or another one", where=str(out), do=do) from None
    except (ray.exceptions.RayError, ConnectionError) as error:
        what = f"the cluster could not finish its cells: {_first_line(error)}"
        raise RunError(what, where=str(out), do="The same command resumes; finished cells are kept") from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it connects, which would end a study in the middle of a step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reason(error: BaseException) -> str:
    """What a server says of its failure stands in the last line of a traceback, everything else in the first."""
    if isinstance(error, ConnectionAbortedError):
        return str(error).strip().splitlines()[-1].removeprefix("RuntimeError: ").rstrip(".")
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
