"""What a study says of itself before it begins."""

from pathlib import Path

import pytest
import torch

from medprior.config import validate
from medprior.data.catalog import build_catalog
from medprior.data.store.pixels import PixelStore, ResidentStore
from medprior.data.store.placement import Kind, Placement
from medprior.errors import RunError
from medprior.study.planning.words import pixels_line
from medprior.study.record import Record


@pytest.mark.parametrize(
    ("kind", "words"),
    [("device", "the memory of the GPU"), ("host", "memory that all processes share"), ("disk", "from the disk")],
)
def test_the_place_of_the_pixels_is_said_with_its_reason(cohort: Path, tmp_path: Path, kind: Kind, words: str) -> None:
    store = PixelStore.build(build_catalog(cohort.parent), tmp_path / "store", size=32)
    line = pixels_line(ResidentStore(store, torch.device("cpu"), Placement(kind, "there is room")))
    assert line.startswith("Pixels   60 images at 32 px")
    assert f"{words} " in line.replace(":", " ")
    assert "there is room" in line
    assert "data.placement" in line


def test_the_place_may_change_when_a_study_goes_on(tmp_path: Path) -> None:
    record = Record.open(tmp_path, validate({}))
    record.facts["steps"] = {"simclr/resnet18": 3}
    record.same_data("data")
    assert Record.open(tmp_path, validate({"data": {"placement": "disk"}})).facts["steps"]
    with pytest.raises(RunError, match=r"data\.dedupe was False, now True"):
        Record.open(tmp_path, validate({"data": {"dedupe": True}}))
