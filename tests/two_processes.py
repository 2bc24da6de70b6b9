"""Two processes in one gloo group, for the tests that compare several processes with one: run as a file, one of them.

Both live as long as the tests of a worker, as importing torch takes longer than most of what they are asked.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
DONE = b"."


class TwoProcesses:
    """Execute a program in both processes, which are started at the first use and again after a failure."""

    def __init__(self) -> None:
        self.pair: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self.meetings = 0

    def __call__(self, program: str, folder: Path, test: str | Path, limit: float = 240.0) -> None:
        """Return when both have come to the program's end.

        Args:
            program: executed as by `python -c` with the words RANK FOLDER, its group of processes made before and
                destroyed after it.
            test: file beside which it finds what it imports.
            limit: in seconds, after which a process says where it stands and ends.

        Raises:
            AssertionError: one of them failed or took too long, with what both said; both are ended.
        """
        if any(process.poll() is not None for process, _ in self.pair):
            self.end()
        if not self.pair:
            self.pair = [start() for _ in range(2)]
            self._wait()
        self.meetings += 1
        job = {"program": program, "folder": str(folder), "beside": str(Path(test).parent), "limit": limit}
        for rank, (process, said) in enumerate(self.pair):
            said.seek(0), said.truncate()
            process.stdin.write(json.dumps(job | {"rank": rank, "meet": f"meet{self.meetings}"}).encode() + b"\n")
        self._wait()

    def _wait(self) -> None:
        """No limit here: each of them ends itself, also where it hangs, and what has ended answers at once."""
        answers = [process.stdout.read(1) for process, _ in self.pair]
        if answers != [DONE, DONE]:
            each = zip(self.pair, answers, strict=True)
            ends = ["is done" if done else f"ended with {process.wait()}" for (process, _), done in each]
            words = [f"process {n} {end}:\n{said}" for n, (end, said) in enumerate(zip(ends, self.end(), strict=True))]
            raise AssertionError("\n".join(words))

    def end(self) -> list[str]:
        """End both, if they run; what each said last."""
        words = []
        for process, said in self.pair:
            process.kill()
            process.communicate()
            said.seek(0)
            words.append(said.read().decode(errors="replace"))
            said.close()
        self.pair = []
        return words


def start() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    said = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open as long as the process lives
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, __file__], bufsize=0, stdin=pipe, stdout=pipe, stderr=said), said


def serve() -> None:
    """Answer a line of standard input, which is a program, when it is done; what programs print goes to the errors."""
    answers = os.dup(1)
    os.dup2(2, 1)
    faulthandler.dump_traceback_later(240, exit=True)
    restore = as_found()
    os.write(answers, DONE)
    faulthandler.cancel_dump_traceback_later()
    for line in sys.stdin:
        job = json.loads(line)
        faulthandler.dump_traceback_later(job["limit"], exit=True)
        try:
            execute(**job)
        except BaseException:
            # At once and with its group: the other must not wait for what this one no longer sends.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        restore()
        os.write(answers, DONE)
        faulthandler.cancel_dump_traceback_later()


def execute(program: str, folder: str, beside: str, limit: float, rank: int, meet: str) -> None:
    import torch.distributed as dist

    sys.argv, sys.path[:0] = ["-c", str(rank), folder], [beside]
    store, patience = f"file://{folder}/{meet}", timedelta(seconds=limit)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=patience)
    exec(compile(program, "PROGRAM", "exec"), {"__name__": "__main__"})
    dist.destroy_process_group()


def as_found() -> Callable[[], None]:
    """What gives the next program the process as it is now: all but the modules imported meanwhile from elsewhere."""
    import numpy as np
    import torch

    set_to: list[tuple[Callable[[Any], object], object]] = [
        (random.seed, None),
        (np.random.seed, None),
        (torch.manual_seed, torch.initial_seed()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_num_threads, torch.get_num_threads()),
        (torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()),
        (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (os.chdir, Path.cwd()),
    ]
    path, environment = list(sys.path), dict(os.environ)

    def restore() -> None:
        for put, value in set_to:
            put(value)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        for name, module in list(sys.modules.items()):
            if name != "__main__" and Path(getattr(module, "__file__", None) or "/").is_relative_to(HERE):
                del sys.modules[name]
        gc.collect()

    return restore


if __name__ == "__main__":
    serve()
