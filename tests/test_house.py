"""The house stands: imports run downwards, faces stay light, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "medprior"
FLOORS = {
    "__main__": 6,
    "cli": 6, "explorer": 6, "study": 5, "report": 5, "training": 4, "methods": 3, "tasks": 3, "views": 2,
    "backbones": 2, "data": 1, "objectives": 1, "evaluation": 1,
    "config": 0, "errors": 0, "registry": 0, "progress": 0, "files": 0,
}  # fmt: skip


def arrows() -> list[tuple[str, str, str]]:
    """(file, room it is in, room it imports from) for every import of medprior inside medprior."""
    found = []
    for file in SRC.rglob("*.py"):
        here = file.relative_to(SRC).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [(str(file.relative_to(SRC)), here, n.split(".")[1]) for n in names if n.startswith("medprior.")]
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {
        p.name.removesuffix(".py") for p in SRC.iterdir() if p.name not in ("__init__.py", "__pycache__", "py.typed")
    }
    assert rooms <= set(FLOORS)


def test_imports_run_downwards() -> None:
    found = arrows()
    assert len(found) > 50
    assert [a for a in found if FLOORS[a[2]] > FLOORS[a[1]]] == []


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["bench", "--help"], ["methods"]])
def test_help_is_quick_and_light(command: list[str]) -> None:
    code = f"import sys; sys.argv = ['medprior', *{command!r}]\nimport medprior.cli as c\n"
    code += "try: c.main()\nexcept SystemExit as e: assert not e.code\n"
    code += "heavy = {'torch', 'pandas', 'timm', 'sklearn', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "medprior" in done.stdout or "simclr" in done.stdout


def test_import_is_light() -> None:
    code = "import medprior, sys; assert not {'torch', 'numpy', 'pydantic', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_stay_small() -> None:
    lengths = {str(f.relative_to(SRC)): f.read_text(encoding="utf-8").count("\n") for f in SRC.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
