"""One row: the step of a method beside a dense forward and backward pass of its encoder, in a process of its own.

python benchmarks/methods/worker.py ROW STORE        ROW is the JSON that run.py writes, STORE holds the pixels
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as the command line sets it

import torch
from torch import Tensor

from medprior.backbones.sparse import Sparse
from medprior.data.store.pixels import PixelStore
from medprior.training.benchmark import Prepared, prepared
from medprior.training.benchtrainer import Asked, make_trainer
from medprior.training.device import computing
from medprior.training.flops import peak_memory
from medprior.training.loop import Trainer

Work = Callable[[], object]
WARM, ROUNDS = 1, 4
CPU = torch.device("cpu")


def main() -> None:
    row, store = json.loads(sys.argv[1]), PixelStore.open(Path(sys.argv[2]))
    steps = WARM + ROUNDS
    asked = Asked(
        *(row[name] for name in ("method", "preset", "backbone", "size")), 2, row["batch"], steps=steps, repeats=1
    )
    with computing(), closing(make_trainer(asked, store, CPU)) as trainer:
        memory = {"memory_before": peak_memory(CPU)}
        for _ in range(WARM):
            trainer.step()
        memory["memory_peak"] = peak_memory(CPU)
        made = prepared(trainer)
        parts: dict[str, Work] = {"dense": partial(dense, trainer, made), "step": trainer.step}
        if row["parts"]:
            parts |= {name: partial(part, trainer, made) for name, part in SPARK.items()}
        seconds = timed(parts)
        print(json.dumps({**row, "threads": torch.get_num_threads(), "views": len(made.views), **memory, **seconds}))


def timed(parts: dict[str, Work]) -> dict[str, dict[str, list[float]]]:
    """Wall seconds and CPU seconds of every part, round by round, in an order that is reversed at every round."""
    wall: dict[str, list[float]] = {name: [] for name in parts}
    busy: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(ROUNDS + 1):
        for name in parts if number % 2 else reversed(parts):
            began, spent = time.perf_counter(), time.process_time()
            parts[name]()
            if number:  # the first round warms up
                wall[name].append(round(time.perf_counter() - began, 4))
                busy[name].append(round(time.process_time() - spent, 4))
    return {"wall": wall, "cpu": busy}


def dense(trainer: Trainer, made: Prepared) -> None:
    """The encoder alone on one view of every scan."""
    learn(trainer, trainer.method.encoder(made.views[0].pixels))


def sparse(trainer: Trainer, made: Prepared) -> None:
    """SparK's encoder, blind to what is hidden."""
    learn(trainer, hide(trainer, made).encode(trainer.method.encoder, made.views[0].pixels))


def restored(trainer: Trainer, made: Prepared) -> None:
    """The same, and the decoder."""
    seen = hide(trainer, made)
    learn(trainer, [trainer.method.decoder(seen.encode(trainer.method.encoder, made.views[0].pixels), seen)])


def whole(trainer: Trainer, made: Prepared) -> None:
    """The whole method, without update and without making views."""
    learn(trainer, [trainer.method(made.views, made.batch)["loss"]])


SPARK = {"sparse": sparse, "restored": restored, "whole": whole}


def hide(trainer: Trainer, made: Prepared) -> Sparse:
    return Sparse(trainer.method.mask(made.batch))


def learn(trainer: Trainer, made: list[Tensor]) -> None:
    """The gradients of a loss that costs next to nothing itself."""
    trainer.method.zero_grad(set_to_none=True)
    torch.stack([one.square().mean() for one in made]).sum().backward()


if __name__ == "__main__":
    main()
