"""One process that feeds damaged files to the readers of one family, until it has enough or dies of one.

    python worker.py FAMILY --corpus FOLDER --state FILE --inputs 1000 [--seconds 60] [--seed 1] [--blind]

Guided by coverage through atheris (libFuzzer); blind with --blind. The file under test stays in FILE.files when the
process dies, for the caller to keep.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

GUIDED = ("medprior.data", "PIL", "nibabel", "pydicom", "numpy.lib.format", "numpy.lib._format_impl", "xml.etree",
          "zipfile", "gzip", "csv")  # fmt: skip
_HANG = 150  # seconds of wall time until the process is killed by its own alarm


class Session:
    """Counts, faults and the folders of one process."""

    def __init__(self, options: argparse.Namespace) -> None:
        import seeds
        import watch

        self.options = options
        self.counts: collections.Counter[str] = collections.Counter()
        self.slowest, self.heaviest, self.slow_input = 0.0, 0, b""
        self.faults: dict[str, dict[str, Any]] = {}
        self.started = time.monotonic()
        self.names = seeds.NAMES[options.family]
        self.beside = seeds.companions(options.family)
        self.box = Path(f"{options.state}.files")
        self.stock = self.box / "stock"
        self.watch, self.gauge = watch.Watch(), watch.Gauge()

    def prepare(self) -> None:
        """Folders with their traps, and everything imported that valid files need."""
        import seeds
        import targets
        import watch

        shutil.rmtree(self.box, ignore_errors=True)
        self.stock.mkdir(parents=True)
        (self.box / "secret.raw").write_bytes(b"\x7f" * 4096)
        for name, content in self.beside.items():
            (self.stock / name).write_bytes(content)
        self.target = targets.target(self.options.family)
        for seed in seeds.seeds(self.options.family):
            self._run(seed)
        Path(f"{self.options.state}.begin").touch()
        print("begin", flush=True)
        self.watch.install()
        watch.limit_addresses()

    def try_one(self, data: bytes) -> None:
        """Feed one input and judge what came of it."""
        self.gauge.start()
        self.wait()
        try:
            outcome = self._run(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            outcome = "fault"
            self._fault(_name_of(error), "".join(traceback.format_exception(error))[-3000:], data)
        self.counts[outcome] += 1
        self._measure(data)
        if (total := self.counts.total()) % 200 == 0 or self._done(total):
            self.save()
        if self._done(total):
            shutil.rmtree(self.box, ignore_errors=True)
            sys.stderr.flush()
            os._exit(0)

    @staticmethod
    def wait() -> None:
        """Wind the clock that ends the process where one step never does."""
        signal.setitimer(signal.ITIMER_REAL, _HANG)

    def _done(self, total: int) -> bool:
        return total >= self.options.inputs or time.monotonic() - self.started > self.options.seconds

    def _run(self, data: bytes) -> str:
        root = self.box / str(self.counts.total())
        name = self.names[data[0] % len(self.names)] if data else self.names[0]
        root.mkdir()
        for companion in self.beside:
            os.link(self.stock / companion, root / companion)
        (root / "link.raw").symlink_to("../secret.raw")
        (root / name).write_bytes(data[1:])
        self.watch.root = str(root)
        try:
            return str(self.target(root, name))
        finally:
            self.watch.root = ""
            shutil.rmtree(root, ignore_errors=True)

    def _measure(self, data: bytes) -> None:
        import watch

        seconds, memory = self.gauge.stop()
        if seconds > self.slowest:
            self.slowest, self.slow_input = seconds, data
        self.heaviest = max(self.heaviest, memory)
        if seconds > watch.MOST_SECONDS:
            self._fault("slow", f"{seconds:.1f} s of CPU", data)
        if memory > watch.MOST_MEMORY:
            self._fault("memory", f"{memory / 2**20:.0f} MiB added", data)
        for broken in self.watch.broken:
            self._fault(f"opened: {broken.split(' ')[0]}", broken, data)
        self.watch.broken.clear()

    def _fault(self, name: str, text: str, data: bytes) -> None:
        known = self.faults.setdefault(
            name, {"count": 0, "text": text, "input": data.hex() if len(data) < 20000 else ""}
        )
        known["count"] += 1
        if len(data) < len(known["input"]) // 2:
            known["input"], known["text"] = data.hex(), text
        self.save()

    def save(self) -> None:
        """What is known so far, for the case that the next input is the last."""
        state = {"counts": self.counts, "slowest": self.slowest, "heaviest": self.heaviest, "faults": self.faults,
                 "slow_input": self.slow_input.hex()}  # fmt: skip
        Path(f"{self.options.state}.new").write_text(json.dumps(state), encoding="utf-8")
        Path(f"{self.options.state}.new").replace(self.options.state)


def _name_of(error: BaseException) -> str:
    """Faults of one kind from one place are one fault."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(f.filename).name}:{f.name}" for f in frames if "medprior/data" in f.filename]
    kind = str(error).split(":")[0][:60] if type(error).__name__ == "Broken" else ""
    return f"{type(error).__name__} {places[-1] if places else ''} {kind}".strip()


def main() -> None:
    """Run until enough."""
    parser = argparse.ArgumentParser()
    parser.add_argument("family")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)
    (_blind if options.blind else _guided)(options)


def _blind(options: argparse.Namespace) -> None:
    import mutators
    import seeds

    session = Session(options)
    session.prepare()
    pool, rng = seeds.seeds(options.family), random.Random(options.seed)
    while True:
        session.try_one(mutators.mutate(rng.choice(pool), rng, pool))


def _guided(options: argparse.Namespace) -> None:
    import atheris

    with atheris.instrument_imports(include=list(GUIDED)):
        session = Session(options)
        session.prepare()
    import mutators
    import seeds

    first = seeds.seeds(options.family)
    pool = collections.deque(first, 512)

    def custom_mutator(data: bytes, limit: int, seed: int) -> bytes:
        session.wait()
        rng = random.Random(seed)
        kind = rng.random()
        if kind < 0.1:
            return bytes(atheris.Mutate(data, limit))
        if kind < 0.2:
            pool.append(data)
        return mutators.mutate(rng.choice(first) if kind > 0.6 else data, rng, pool, limit)

    flags = [
        "-timeout=0",
        "-report_slow_units=1000000",
        f"-artifact_prefix={options.state}.",
        "-rss_limit_mb=0",
        f"-max_len={mutators.LIMIT}",
        "-len_control=0",
        f"-seed={options.seed}",
    ]
    flags += [f"-handle_{kind}=0" for kind in ("segv", "bus", "abrt", "ill", "fpe", "int", "term", "xfsz")]
    atheris.Setup([sys.argv[0], *flags, str(options.corpus)], session.try_one, custom_mutator=custom_mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
