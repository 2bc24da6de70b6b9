"""The comparison with other libraries: its table is drawn from its raw results, and every side is asked the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "throughput"
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a script of the comparison by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def run(side: str, number: int, whole: float, epochs: list[float], **more: Any) -> dict[str, Any]:
    """A run of 100 images an epoch."""
    seen = {"task": "mae-64", "side": side, "round": number, "images": 100, "process_seconds": whole}
    return {**seen, "epoch_seconds": epochs, "memory_bytes": 2e9, "gpu_memory_bytes": None, **more}


OURS = {"share_of_bare": 0.97, "parts": {"utilisation": 0.41}}
RUNS = [
    run("ours", 0, 3.0, [1.0, 0.5, 0.5], **OURS),
    run("lightly", 0, 6.0, [2.0, 1.0, 1.0]),
    run("lightly", 1, 12.0, [4.0, 2.0, 2.0]),
    run("ours", 1, 6.0, [1.0, 1.0, 1.0], **OURS),
]
RESULTS = {
    "device": "cpu",
    "toy": False,
    "environment": {"cpus": 2, "gpus": [], "torch": "2.14.1+cpu"},
    "runs": RUNS,
    "failures": [],
}


def test_the_committed_table_is_what_the_committed_results_say(script: Any):
    draw = script("draw")
    page = draw.README.read_text()
    assert page == draw.replaced(page, draw.section(FOLDER))


def test_the_committed_figure_is_what_the_committed_results_say(script: Any):
    figure, drawn = FOLDER / "throughput.svg", script("draw").figure(FOLDER)
    assert drawn == (figure.read_text().rstrip("\n") if figure.exists() else "")


def test_rates_and_ratios_are_of_the_raw_seconds(script: Any):
    table = script("draw").table(RESULTS)
    assert "| **medprior** | 75.0 [50.0-100] | 150 [100-200] |  | 2.0 GB |" in table
    assert "| lightly | 37.5 [25.0-50.0] | 75.0 [50.0-100] | 2.00x; 2.00x | 2.0 GB |" in table
    assert "- MAE, ViT-Ti/16, 64 px: end to end is 97% (97% to 97%) of a bare loop; it does 41%" in table


def test_a_share_measured_alone_takes_the_place_of_the_others(script: Any):
    draw, share = script("draw"), script("share")
    told = share.Beside(whole=(9.0, 18.0, 10.0), bare=(10.0, 20.0, 10.0)).told()
    assert told["share_of_bare"] == 0.9 and told["share_between"] == [0.9, 1.0] and told["bare"] == 10.0
    table = draw.table({**RESULTS, "shares": {"mae-64": told, "simclr-64": told}})
    assert "- MAE, ViT-Ti/16, 64 px: end to end is 90% (90% to 100%) of a bare loop; it does 41%" in table
    assert "- SimCLR, ResNet-18, 64 px: end to end is 90% (90% to 100%) of a bare loop." in table


def test_toys_never_reach_the_table(script: Any, tmp_path: Path):
    draw = script("draw")
    (tmp_path / "cpu.json").write_text(json.dumps({**RESULTS, "toy": True}))
    assert draw.section(tmp_path).startswith("Not measured yet")
    (tmp_path / "cpu.json").write_text(json.dumps(RESULTS))
    assert "**medprior**" in draw.section(tmp_path)


def test_the_figure_is_sound_and_holds_every_side_and_curve(script: Any, tmp_path: Path):
    sizes = [{"axis": "size", "value": n, "end_to_end": {"median": 1e5 / n**2}} for n in (32, 64, 128)]
    counts = [{"axis": "images", "value": n, "index_seconds": 1.0, "store_seconds": n / 100} for n in (100, 1000)]
    scaling = {"task": "scaling", "side": "scaling", "round": 0, "points": [*sizes, *counts]}
    (tmp_path / "gpu.json").write_text(json.dumps({**RESULTS, "runs": [*RUNS, scaling]}))
    drawn = script("draw").figure(tmp_path)
    root = xml.etree.ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{space}rect")) == 2 and len(root.findall(f".//{space}polyline")) == 2
    words = {found.text for found in root.iter(f"{space}text")}
    assert {"medprior", "lightly", "MAE, ViT-Ti/16, 64 px", "side of the view, px", "150 images/s"} <= words


def test_sides_take_turns_and_the_order_turns_round(script: Any):
    compare, jobs = script("compare"), script("jobs")
    order = [(number, side) for number, task, side in compare.turns([jobs.CPU[0]], 2)]
    sides = jobs.CPU[0].sides
    assert order == [*((0, side) for side in sides), *((1, side) for side in reversed(sides))]


def test_every_side_is_asked_the_same_list_of_changes(script: Any):
    """What lightly is given are medprior's own numbers."""
    peer, jobs = script("peer_lightly"), script("jobs")
    asked = jobs.job(jobs.CPU[0], "lightly", "cpu", {})
    view = peer.transform(asked).transforms[0].transform
    crop, blur = view.transforms[0], next(t for t in view.transforms if type(t).__name__ == "GaussianBlur")
    recipe = asked["views"]
    assert tuple(crop.scale) == recipe["scale"] and tuple(crop.ratio) == pytest.approx(recipe["aspect"])
    assert blur.prob == recipe["blur_probability"] and blur.sigmas[1] == pytest.approx(64 * recipe["blur"][1])
    names = {type(t).__name__ for t in peer.transform({**asked, "method": "mae"}).transform.transforms}
    assert names == {"RandomResizedCrop", "ToTensor", "Normalize"}


@pytest.mark.parametrize("task", ["simclr-64", "mae-64"])
def test_both_sides_train_models_of_the_same_size(script: Any, task: str):
    import torch

    from medprior.backbones.factory import create_encoder
    from medprior.methods.factory import create_method
    from medprior.methods.method import DataFacts

    peer, jobs = script("peer_lightly"), script("jobs")
    (found,) = [one for one in jobs.CPU if one.name == task]
    asked = jobs.job(found, "lightly", "cpu", {})
    theirs = {"simclr": peer.SimCLR, "mae": peer.MAE}[found.method](asked)
    encoder = create_encoder(found.backbone, 1, 2, found.size, seed=0)
    ours = create_method(found.method, encoder, found.preset, facts=DataFacts(8, 1, 2, found.size, (0.5,), (0.2,)))
    counts = [sum(w.numel() for w in model.parameters() if w.requires_grad) for model in (ours, theirs)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    loss = theirs([torch.rand(4, 1, found.size, found.size)] * 2)
    assert torch.isfinite(loss)


def test_memory_is_that_of_a_process_and_its_children(script: Any):
    """A parent that holds 40 MB and a child that holds 40 more, watched until the parent speaks."""
    held = "held = bytearray(40_000_000); held[:] = b'x' * len(held)"
    child = f"import sys, time; {held}; sys.stdout.write('up'); sys.stdout.flush(); time.sleep(60)"
    parent = (
        f"import subprocess, sys, time; {held}\n"
        f"with subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE) as below:\n"
        "    below.stdout.read(2); time.sleep(1.5); print('{}', flush=True); below.kill()"
    )
    footprint = script("footprint")
    with (
        subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process,
        footprint.Footprint(process, None) as watched,
    ):
        assert [line for line in process.stdout or () if watched.seen()] == ["{}\n"]
    assert 80e6 < watched.peak < 200e6 and not watched.killed


def test_a_process_beyond_its_time_is_ended(script: Any):
    footprint = script("footprint")
    with (
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.PIPE, text=True
        ) as one,
        footprint.Footprint(one, 0.1) as watched,
    ):
        one.wait(timeout=20)
    assert watched.killed and one.returncode < 0


def test_what_went_wrong_is_the_line_that_names_it(script: Any):
    complaint = script("compare").complaint
    assert complaint(["ok", "  ValueError: no such thing", "a tip"]) == "ValueError: no such thing"
    assert complaint([]) == "it said nothing"
