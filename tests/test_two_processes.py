"""What other tests rest on: two real processes, alike for every program, and no failure without its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from two_processes import TwoProcesses

LOOKS = """
import os, sys, torch
import torch.distributed as dist
import test_two_processes

me, folder = int(sys.argv[1]), sys.argv[2]
total = torch.tensor(10.0**me)
dist.all_reduce(total)
found = [torch.rand(3).tolist(), str(torch.get_default_dtype()), torch.get_num_threads(), torch.is_grad_enabled()]
found += [torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), sys.argv, sys.path]
found += [dict(os.environ), os.getcwd(), sorted(globals()), test_two_processes.marks, os.getpid()]
torch.save((float(total), found), f"{folder}/{me}.pt")
"""
LITTERS = """
left = 1
torch.set_default_dtype(torch.float64), torch.set_num_threads(7), torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True), torch.set_float32_matmul_precision("medium")
torch.manual_seed(3), test_two_processes.marks.append(1), sys.path.append(folder), sys.argv.append("more")
os.environ["LEFT"] = "behind"
os.chdir(folder)
"""
FAILS = """
import sys, time

def sleeps():
    time.sleep(120)

if sys.argv[1] == "1":
    raise ValueError("what went wrong")
sleeps()
"""

marks: list[int] = []


def test_a_program_finds_what_the_first_one_found(two_processes: TwoProcesses, tmp_path: Path) -> None:
    found = []
    for program in (LOOKS + LITTERS, LOOKS):
        two_processes(program, tmp_path, __file__)
        found.append([torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)])
    (first, other), again = found
    assert first[0] == other[0] == 11 and first[1][-1] != other[1][-1], "two that speak with each other"
    assert first[1][0] != other[1][0], "seeds of their own, as all processes have"
    assert again == [first, other]


def test_a_failure_is_told_and_a_wait_is_ended_and_then_there_are_new_ones(
    two_processes: TwoProcesses, tmp_path: Path
) -> None:
    told = r"(?s)process 0 ended with 1:\nTimeout.* in sleeps\n.*process 1 ended with 1:\n.*ValueError: what went wrong"
    with pytest.raises(AssertionError, match=told):
        two_processes(FAILS, tmp_path, __file__, limit=5)
    two_processes(LOOKS, tmp_path, __file__)
    assert [torch.load(tmp_path / f"{rank}.pt")[0] for rank in (0, 1)] == [11, 11]
