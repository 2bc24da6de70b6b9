"""Who works on cells: which process computes where, and which machines of a cluster can be used."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medprior.config import load_settings
from medprior.errors import RunError, SettingsError
from medprior.study.executors.cluster import OnCluster
from medprior.study.executors.connection import ATTEMPTS, patiently
from medprior.study.executors.devices import devices_for
from medprior.study.executors.machines import Mark, Sight, judge, look, machines_of, marked
from medprior.study.workers import check_workers


@pytest.mark.parametrize(
    ("device", "gpus", "asked", "found"),
    [
        ("cpu", 0, None, ["cpu"] * 6),
        ("cpu", 4, 2, ["cpu"] * 2),
        ("cuda", 1, None, ["cuda:0"]),
        ("cuda", 4, None, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("cuda", 4, 2, ["cuda:0", "cuda:1"]),
        ("cuda", 2, 8, ["cuda:0", "cuda:1"]),
        ("cuda:1", 4, None, ["cuda:1"]),
        ("cuda:1", 4, 3, ["cuda:1"]),
        ("mps", 0, 4, ["mps"]),
    ],
)
def test_cores_are_shared_and_gpus_are_not(device: str, gpus: int, asked: int | None, found: list[str]) -> None:
    assert [str(each) for each in devices_for(torch.device(device), gpus, 6, asked)] == found


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeName": name, "NodeID": f"id of {name}", "Alive": alive, "Resources": resources}


def test_machines_without_room_are_left_out() -> None:
    nodes = [node("head"), node("dead", alive=False, CPU=8), node("small", CPU=3), node("large", CPU=64, GPU=2)]
    assert {m.name: m.places for m in machines_of(nodes, threads=1, on_gpu=False)} == {"small": 3, "large": 64}
    assert {m.name: m.places for m in machines_of(nodes, threads=4, on_gpu=False)} == {"large": 16}
    assert {m.name: m.places for m in machines_of(nodes, threads=1, on_gpu=True)} == {"large": 2}


def test_a_mark_is_seen_while_it_lies_and_only_in_its_folder(tmp_path: Path) -> None:
    with marked(tmp_path) as mark:
        assert look(mark).sees
        assert not Mark(tmp_path / "elsewhere", mark.word).seen()
        assert not Mark(mark.path, "of another study").seen()
    assert not mark.seen()
    assert not list(tmp_path.iterdir())


def test_a_machine_that_sees_another_folder_is_refused(tmp_path: Path) -> None:
    with marked(tmp_path) as mark:
        here = look(mark)
    judge({"near": here}, here, tmp_path)
    with pytest.raises(RunError, match=r"not seen by far1, far2 \[.*\]\nChoose an --out on a file system"):
        judge({"far2": Sight(False, here.versions), "near": here, "far1": Sight(False, {})}, here, tmp_path)


def test_a_machine_with_other_versions_is_refused(tmp_path: Path) -> None:
    here = Sight(True, {"torch": "2.14.1", "numpy": "2.4.6"})
    with pytest.raises(RunError, match=r"old has torch 2.6.0 \(here 2.14.1\): its results would not be the same"):
        judge({"near": here, "old": Sight(True, {"torch": "2.6.0", "numpy": "2.4.6"})}, here, tmp_path)


@pytest.mark.parametrize("package", ["ray", "grpc"])
def test_a_cluster_without_ray_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    settings = load_settings(assignments=["study.workers=ray://host:10001"])
    check_workers(settings)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=r"pip install 'medprior\[ray\]'"):
        check_workers(settings)
    check_workers(load_settings(assignments=["study.workers=2"]))


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(RunError, match="the Ray cluster cannot be reached") as caught:
            OnCluster(address, tmp_path, threads=1, on_gpu=False).places()
    assert caught.value.where == address


@pytest.mark.parametrize(("refused", "asked"), [(0, 1), (ATTEMPTS - 1, ATTEMPTS), (ATTEMPTS, ATTEMPTS)])
def test_a_busy_cluster_is_asked_again(refused: int, asked: int) -> None:
    answers = iter([ConnectionAbortedError("too slow")] * refused + [None])
    attempts = []

    def connect() -> None:
        attempts.append(next(answers))
        if attempts[-1] is not None:
            raise attempts[-1]

    if refused < ATTEMPTS:
        patiently(connect)
    else:
        with pytest.raises(ConnectionAbortedError):
            patiently(connect)
    assert len(attempts) == asked
