"""What a reader does while it reads: files it opens, memory it takes, time it needs."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEBIBYTE = 1 << 20
MOST_MEMORY = 1024 * MEBIBYTE
"""Resident memory that one input may add, at most."""
MOST_ADDRESSES = 6 << 30
"""Address space that the process may take on top of what it has when it begins (RLIMIT_AS)."""
MOST_SECONDS = 10.0
"""CPU seconds for one input."""
_OPENING = ("open", "os.open")
_TOUCHING = frozenset(
    {"os.listdir", "os.scandir", "os.chdir", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
     "os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr", "shutil.copyfile", "shutil.move",
     "shutil.rmtree",
     "tempfile.mkstemp", "tempfile.mkdtemp", "glob.glob"}
)  # fmt: skip
_NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.kill",
          "pickle.find_class", "socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen",
          "urllib.Request", "webbrowser.open")  # fmt: skip
_HELPER = "medprior/data/readers/dicom/gdcm_process.py"  # decodes frames that it is handed, and opens no file
_CODE = (".py", ".pyc", ".so", ".pth", ".json", ".txt")
_LIBRARIES = tuple(
    {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix)} | {str(Path(__file__).parents[2] / "src")}
)


@dataclass
class Watch:
    """Looks at the process through Python's audit events while `root` is set.

    Attributes:
        root: the only folder that may be read; "" while nobody is watched. Nothing may be written anywhere.
        broken: what was done against that.
    """

    root: str = ""
    broken: list[str] = field(default_factory=list)

    def install(self) -> None:
        """From now on, and until the process ends: audit hooks cannot be taken away."""
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        root = self.root
        if not root:
            return
        self.root = ""
        try:
            if event in _OPENING:
                self._opened(event, args, root)
            elif event in _TOUCHING or event.startswith(_NEVER):
                self._touched(event, args, root)
        finally:
            self.root = root

    def _opened(self, event: str, args: tuple[Any, ...], root: str) -> None:
        path, flags = args[0], args[2] if len(args) > 2 and isinstance(args[2], int) else 0
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        if real == os.devnull:
            return
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            self.broken.append(f"{event} to write {real}")
        elif not (real.startswith(root + os.sep) or _is_code(real)):
            self.broken.append(f"{event} outside the folder: {real}")

    def _touched(self, event: str, args: tuple[Any, ...], root: str) -> None:
        if event in ("os.listdir", "os.scandir") and isinstance(args[0], str | bytes):
            where = os.path.realpath(os.fsdecode(args[0]))
            if where.startswith((root, *_LIBRARIES)):
                return
        started = event == "subprocess.Popen" and str(args[1][-1]).endswith(_HELPER)
        ended = event == "os.kill" and _is_child(args[0])
        if not started and not ended:
            self.broken.append(f"{event} {args}"[:300])


def _is_code(path: str) -> bool:
    """A module that is imported when it is first needed."""
    return path.startswith(_LIBRARIES) and path.endswith(_CODE)


def _is_child(process: int) -> bool:
    with open(f"/proc/{process}/stat", encoding="latin-1") as file:
        return int(file.read().rpartition(")")[2].split()[1]) == os.getpid()


class Gauge:
    """CPU seconds and added resident bytes of what runs between `start` and `stop`."""

    def start(self) -> None:
        """Forget the peak so far."""
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        self._resident = _status("VmRSS")
        self._cpu = time.process_time()

    def stop(self) -> tuple[float, int]:
        """Seconds and bytes since `start`."""
        seconds = time.process_time() - self._cpu
        return seconds, max(0, _status("VmHWM") - self._resident)


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


def limit_addresses(most: int = MOST_ADDRESSES) -> None:
    """Let an allocation beyond `most` bytes more than now fail as MemoryError."""
    bound = _status("VmSize") + most
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
