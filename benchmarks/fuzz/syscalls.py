"""Which files a process of readers opens, told by the kernel: Python's audit events do not see libraries in C.

python benchmarks/fuzz/syscalls.py --inputs 2000 --out benchmarks/fuzz/syscalls.json      (needs strace)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import seeds

_OPENED = re.compile(r'(?:openat2?|open|creat)\((?:[^,"]*, )?"([^"]*)"[^=]*= (-?\d+)')
_LIBRARIES = (
    *{os.path.realpath(path) for path in (sys.prefix, sys.base_prefix)},
    *(
        str(Path(__file__).parents[2] / "src"),
        "/usr/lib",
        "/lib",
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/usr/share/locale",
    ),
    *("/sys/devices/system/cpu", "/dev/null", "/proc/"),
)
_TRAPS = ("link.raw", "secret.raw", "/etc/passwd")


def main() -> None:
    """One line per family: what was opened that had no business, which is nothing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {family: opened_elsewhere(family, options.inputs) for family in seeds.NAMES}
    for family, (files, strange) in found.items():
        print(f"{family}: {options.inputs} inputs, {files} files opened, of these outside: {strange or 'none'}")
    if options.out:
        rows = {family: {"inputs": options.inputs, "opened": n, "outside": bad} for family, (n, bad) in found.items()}
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(strange for _, strange in found.values()))


def opened_elsewhere(family: str, inputs: int) -> tuple[int, list[str]]:
    """How many files were opened with success after all was imported, and the paths of those that lie elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        trace, state = Path(folder) / "trace", Path(folder) / "state"
        command = [
            "strace",
            "-f",
            "-qq",
            "-s",
            "4096",
            "-e",
            "trace=open,openat,openat2,creat",
            "-o",
            str(trace),
            sys.executable,
        ]
        command += [str(Path(__file__).with_name("worker.py")), family, "--corpus", folder, "--state", str(state)]
        done = subprocess.run([*command, "--inputs", str(inputs), "--blind"], capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:].decode(errors="replace"))
        _, _, after = trace.read_text(encoding="utf-8", errors="replace").partition(f"{state}.begin")
        paths = [path for path, code in _OPENED.findall(after) if int(code) >= 0]
        return len(paths), sorted({path for path in paths if not _is_right(path, f"{state}")})


def _is_right(path: str, state: str) -> bool:
    if path.endswith(_TRAPS):
        return False
    if path == "stock":  # the folder that the worker itself takes away when it is done
        return True
    return path.startswith(_LIBRARIES) or (path.startswith(state) and ".." not in path)


if __name__ == "__main__":
    main()
