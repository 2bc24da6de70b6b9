"""Tables for the terminal: the methods, and what this machine can do."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import shutil
import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from medprior import __version__
from medprior.errors import MedpriorError
from medprior.files import make_folder
from medprior.methods import METHODS

NEEDED_BYTES = 2 << 30
UNTESTED = "experimental"
"""The evidence of a method that says none."""


def list_methods(console: Console) -> None:
    """Every registered method with its source; nothing heavy is imported for it."""
    table = Table(box=None, pad_edge=False)
    for column in ("method", "what it does", "source", "evidence", "presets"):
        table.add_column(column, overflow="fold")
    for name in METHODS.names():
        table.add_row(name, *_described(name), ", ".join(_presets(name)))
    console.print(table)


def show_method(name: str, console: Console) -> None:
    """One method: its docstring and its presets.

    Raises:
        SettingsError: no such method; the nearest is named.
    """
    kind = METHODS.get(name)
    console.print(f"[bold]{name}[/bold]\n")
    console.print(inspect.cleandoc(kind.__doc__ or ""), markup=False)
    for preset, values in _presets(name).items():
        console.print(f"\n[bold]{preset}[/bold]")
        console.print(yaml.safe_dump(values, sort_keys=False).rstrip(), markup=False, highlight=False)


def examine(console: Console, out: Path) -> bool:
    """Print what this machine offers; False when something needed is missing."""
    import torch

    from medprior.training.run import environment

    facts = environment()
    for name, value in facts.items():
        console.print(
            f"{name:<10} {', '.join(value) if isinstance(value, list) else value}"
            if value != []
            else f"{name:<10} none: training runs on CPU cores"
        )
    console.print(
        f"{'speed':<10} {_matmul_gflops():,.0f} GFLOP/s in a matrix product on {torch.get_num_threads()} threads"
    )
    good = True
    try:
        make_folder(out)
        free = shutil.disk_usage(out).free
        good = free > NEEDED_BYTES
        console.print(
            f"{'disk':<10} {free / 1e9:,.1f} GB free in {out}{'' if good else ': less than 2 GB, a study may not fit'}"
        )
    except MedpriorError as error:
        good = False
        console.print(f"{'disk':<10} {error}", markup=False)
    console.print(f"medprior {__version__} is {'ready' if good else 'not ready'} on {os.cpu_count()} cores")
    return good


def _matmul_gflops(size: int = 1024) -> float:
    import torch

    a = torch.rand(size, size)
    a @ a
    began = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 2 * size**3 / (time.perf_counter() - began) / 1e9


def _described(name: str) -> tuple[str, str, str]:
    """First sentence, source and evidence of a method, read from its file without running it."""
    found = importlib.util.find_spec(METHODS.package)
    folder = Path(found.origin).parent if found and found.origin else Path()
    tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == METHODS.base for base in node.bases):
            summary = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            said = _constants(node)
            return summary, said.get("paper", ""), said.get("evidence", UNTESTED)
    return "", "", ""


def _constants(node: ast.ClassDef) -> dict[str, str]:
    """What a class says of itself in plain text."""
    return {
        target.id: line.value.value
        for line in node.body
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
        for target in line.targets
        if isinstance(target, ast.Name)
    }


def _presets(name: str) -> dict[str, object]:
    found = importlib.util.find_spec(METHODS.package)
    folder = Path(found.origin).parent if found and found.origin else Path()
    presets: dict[str, object] = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return presets
