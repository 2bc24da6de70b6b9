"""The newest good checkpoint is found, whatever happened to the last one."""

from pathlib import Path

import pytest
import torch

from medprior.training.checkpoint import drop_checkpoints, load_checkpoint, save_checkpoint


def test_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"weight": torch.full((2,), float(step))})
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000002.pt", "step-00000003.pt"]
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert (state["step"], state["weight"].tolist()) == (3, [3.0, 3.0])


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "flip"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, 1, {"weight": torch.ones(1000)})
    path = save_checkpoint(tmp_path, 2, {"weight": torch.ones(1000)})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(
        {"truncate": whole[: len(whole) // 2], "garbage": b"x" * 500, "empty": b"", "flip": bytes(flipped)}[damage]
    )
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_a_missing_sum_is_damage(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {})
    save_checkpoint(tmp_path, 2, {}).with_suffix(".blake2b").unlink()
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_none_at_all(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_what_a_killed_process_left_goes_with_the_rest(tmp_path: Path) -> None:
    """Killed between the first byte and the rename, it can tidy nothing up."""
    folder = tmp_path / "checkpoints"
    kept = save_checkpoint(folder, 10, {"x": 1})
    (folder / ".step-00000020.pt.14413.part").write_bytes(kept.read_bytes()[:100])
    (folder / ".step-00000020.pt.sha256.14413.part").write_text("half")
    state = load_checkpoint(folder)
    assert state is not None and state["step"] == 10
    drop_checkpoints(folder)
    assert not folder.exists()
