"""The catalog: what a folder gives, what a second run reuses, and what is said of the rest."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data import readers
from medprior.data.catalog import PATIENTS_UNKNOWN, LabelSpec, build_catalog
from medprior.data.catalogfile import load_catalog, save_catalog
from medprior.data.facts import is_grey
from medprior.errors import DataError, LabelError, OutputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def image(path, value=0, size=(12, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 255, size, np.uint8)
    Image.fromarray(noise).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        image(tmp_path / f"scans/ward {i % 2}/é{i}.png", i)
    return tmp_path / "scans"


def test_one_row_per_scan_sorted_by_path(folder):
    catalog = build_catalog(folder)
    assert len(catalog) == 6 and not len(catalog.problems)
    assert list(catalog.table["path"]) == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert list(catalog.table["shape"]) == [[12, 10]] * 6
    assert catalog.labels is None and not catalog.patients_known
    assert catalog.patients().tolist() == [f"image:{i}" for i in range(6)]
    for row in range(6):
        scan = readers.read(catalog.source(row), catalog.root)
        assert scan.source == catalog.table["path"][row]
    with pytest.raises(LabelError, match="no labels"):
        catalog.targets()


def test_a_truncated_jpeg_among_100_good_ones_stops_nothing(tmp_path):
    for i in range(101):
        image(tmp_path / f"{i:03}.jpg", i, (64, 64))
    spoilt = tmp_path / "050.jpg"
    spoilt.write_bytes(spoilt.read_bytes()[:-900])
    catalog = build_catalog(tmp_path)
    assert len(catalog) == 100
    assert catalog.problems.to_dict("records") == [
        {"path": "050.jpg", "kind": "unreadable", "reason": "the file is truncated"}
    ]


def test_an_empty_folder_says_what_is_readable(tmp_path):
    with pytest.raises(DataError, match="it is empty") as refused:
        build_catalog(tmp_path)
    assert "NIfTI" in refused.value.do


def test_a_folder_of_text_says_what_was_found(tmp_path):
    for name in ("a.txt", "b.txt", "labels.csv", "x.xyz"):
        (tmp_path / name).write_text("text")
    with pytest.raises(DataError, match=r"it holds 4 files \(2 \.txt"):
        build_catalog(tmp_path)


def test_an_absent_folder_names_the_nearest(tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(DataError, match="no such folder") as refused:
        build_catalog(tmp_path / "scan")
    assert refused.value.do == "Nearest: scans"


def test_when_nothing_can_be_read_the_first_reasons_are_shown(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the 2 files .*a\.png: the file is empty; b\.jpg"):
        build_catalog(tmp_path)


def test_a_single_file_is_enough_and_an_unreadable_kind_is_said(folder):
    only = folder / "ward 0/é0.png"
    assert list(build_catalog(only).table["path"]) == ["é0.png"]
    (folder / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no readable kind"):
        build_catalog(folder / "notes.txt")


def test_hidden_files_sidecars_and_links_are_left_out(folder, tmp_path):
    image(folder / ".hidden/a.png")
    image(folder / "._b.png", 1)
    (folder / "labels.csv").write_text("x")
    image(tmp_path / "elsewhere/c.png")
    (folder / "outside").symlink_to(tmp_path / "elsewhere")
    (folder / "inside.png").symlink_to(folder / "ward 0/é0.png")
    (folder / "circle").symlink_to(folder)
    (folder / "d.xyz").write_text("x")
    catalog = build_catalog(folder)
    assert len(catalog) == 6
    assert catalog.warnings == [
        "Left out, of kinds that are not read: 1 file (1 .xyz).",
        "Left out: 1 link out of the folder, not followed.",
        "Left out: 2 links to a folder, or to a file that is met by itself.",
    ]


def test_a_name_that_is_no_text_is_listed(folder):
    shutil.copy(folder / "ward 0/é0.png", os.fsencode(folder) + b"/\xff.png")
    catalog = build_catalog(folder)
    assert len(catalog) == 6 and "no text" in catalog.problems["reason"][0]


def test_the_second_run_opens_nothing_and_gives_the_same(folder, tmp_path, monkeypatch):
    cache = tmp_path / "out/index.parquet"
    first = build_catalog(folder, cache=cache)
    monkeypatch.setattr(readers, "reader", lambda _: pytest.fail("a file was opened again"))
    second = build_catalog(folder, cache=cache)
    assert second.table.equals(first.table) and second.fingerprint() == first.fingerprint()


def test_only_what_changed_is_read_again(folder, tmp_path, monkeypatch):
    cache = tmp_path / "index.parquet"
    before = build_catalog(folder, cache=cache)
    image(folder / "ward 0/é0.png", 99)
    image(folder / "ward 0/new.png", 7)
    (folder / "ward 1/é1.png").unlink()
    opened = []
    genuine = readers.read
    monkeypatch.setattr(readers, "read", lambda source, root: opened.append(source.paths[0]) or genuine(source, root))
    after = build_catalog(folder, cache=cache)
    assert sorted(opened) == ["ward 0/new.png", "ward 0/é0.png"]
    assert after.table.equals(build_catalog(folder).table)
    assert set(before.table["hash"]) - set(after.table["hash"]) and len(after) == 6


def test_what_could_not_be_read_is_tried_again(folder, tmp_path):
    cache = tmp_path / "index.parquet"
    good = (folder / "ward 0/é0.png").read_bytes()
    stamp = (folder / "ward 0/é0.png").stat()
    (folder / "ward 0/é0.png").write_bytes(b"\0" * len(good))
    os.utime(folder / "ward 0/é0.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert len(build_catalog(folder, cache=cache).problems) == 1
    (folder / "ward 0/é0.png").write_bytes(good)
    os.utime(folder / "ward 0/é0.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert not len(build_catalog(folder, cache=cache).problems)


@pytest.mark.parametrize("damage", [b"", b"no parquet", "cut"])
def test_a_damaged_cache_is_made_anew_with_a_warning(folder, tmp_path, damage):
    cache = tmp_path / "index.parquet"
    first = build_catalog(folder, cache=cache)
    cache.write_bytes(cache.read_bytes()[:-100] if damage == "cut" else damage)
    again = build_catalog(folder, cache=cache)
    assert again.table.equals(first.table) and "damaged" in again.warnings[0]
    assert build_catalog(folder, cache=cache).warnings == []


def test_a_cache_that_cannot_be_written_is_an_output_error(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        build_catalog(folder, cache=tmp_path / "file/index.parquet")


def test_what_is_done_when_the_user_stops_is_kept(folder, tmp_path, monkeypatch):
    cache = tmp_path / "index.parquet"
    genuine = readers.read

    def stopped(source, root):
        if source.paths[0].endswith("é5.png"):
            raise KeyboardInterrupt
        return genuine(source, root)

    monkeypatch.setattr(readers, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_catalog(folder, cache=cache, workers=1)
    opened = []
    monkeypatch.setattr(readers, "read", lambda source, root: opened.append(source) or genuine(source, root))
    assert len(build_catalog(folder, cache=cache)) == 6
    assert len(opened) < 6


def test_the_content_names_a_scan_not_its_place(folder, tmp_path):
    before = build_catalog(folder)
    shutil.move(folder, tmp_path / "moved")
    assert build_catalog(tmp_path / "moved").fingerprint() == before.fingerprint()
    image(tmp_path / "moved/ward 0/é0.png", 50)
    assert build_catalog(tmp_path / "moved").fingerprint() != before.fingerprint()


def test_one_bad_page_leaves_the_others(tmp_path, monkeypatch):
    pages = [Image.fromarray(np.eye(6, dtype=np.uint8) + np.uint8(i)) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    genuine = readers.read

    def spoilt(source, root):
        if source.frame == 1:
            raise DataError("the file is truncated", where="a.tif")
        return genuine(source, root)

    monkeypatch.setattr(readers, "read", spoilt)
    catalog = build_catalog(tmp_path)
    assert list(catalog.table["frame"]) == [0, 2] and len(set(catalog.table["hash"])) == 2
    assert catalog.problems["reason"].tolist() == ["page 2: the file is truncated"]


def medmnist(path, labels, counts=(6, 3, 4)):
    held = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        held[f"{split}_images"] = np.random.default_rng(count).integers(0, 255, (count, 9, 9), np.uint8)
        held[f"{split}_labels"] = labels(count)
    np.savez_compressed(path, **held)


def test_medmnist_brings_split_targets_and_a_warning_about_patients(tmp_path):
    medmnist(tmp_path / "a.npz", lambda n: (np.arange(n) % 3)[:, None].astype(np.uint8))
    catalog = build_catalog(tmp_path / "a.npz")
    assert catalog.labels == LabelSpec("multiclass", ("0", "1", "2"), ("y",))
    assert catalog.targets().tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert list(catalog.table["split"]) == ["train"] * 6 + ["val"] * 3 + ["test"] * 4
    assert catalog.table["labelled"].all() and catalog.warnings == [PATIENTS_UNKNOWN]


def test_several_numbers_per_image_are_findings(tmp_path):
    medmnist(tmp_path / "a.npz", lambda n: np.eye(n, 5, dtype=np.uint8))
    catalog = build_catalog(tmp_path / "a.npz")
    assert catalog.labels is not None and catalog.labels.kind == "multilabel"
    assert catalog.targets().shape == (13, 5) and catalog.targets()[:5].tolist() == np.eye(5).tolist()


@pytest.mark.parametrize("labels", [lambda n: np.zeros((n, 1)), lambda n: np.full((n, 2), 7)])
def test_carried_labels_that_say_nothing_are_left_with_a_warning(tmp_path, labels):
    medmnist(tmp_path / "a.npz", labels)
    catalog = build_catalog(tmp_path / "a.npz")
    assert catalog.labels is None and "not used" in catalog.warnings[0] and not catalog.table["labelled"].any()


def test_carried_infinity_is_unknown_and_said(tmp_path):
    medmnist(tmp_path / "a.npz", lambda n: np.array([[0.0], [1.0], [np.inf]] * 2)[:n])
    catalog = build_catalog(tmp_path / "a.npz")
    assert catalog.labels is not None and catalog.labels.names == ("0", "1")
    assert "4 labels that the files carry are infinite; they count as unknown." in catalog.warnings


def test_saving_keeps_everything(tmp_path):
    medmnist(tmp_path / "a.npz", lambda n: np.arange(n)[:, None] % 2)
    (tmp_path / "bad.png").write_bytes(b"")
    catalog = build_catalog(tmp_path)
    save_catalog(catalog, tmp_path / "out/catalog.parquet")
    loaded = load_catalog(tmp_path / "out/catalog.parquet")
    arrays = ["quantiles", "thumb"]
    assert loaded.table.drop(columns=arrays).equals(catalog.table.drop(columns=arrays))
    for name in arrays:
        assert all(map(np.array_equal, loaded.table[name], catalog.table[name]))
    assert loaded.problems.equals(catalog.problems)
    assert (loaded.root, loaded.labels, loaded.warnings) == (catalog.root, catalog.labels, catalog.warnings)
    assert loaded.fingerprint() == catalog.fingerprint()
    assert isinstance(loaded.table["shape"][0], list) and loaded.table["modality"][0] is None


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_catalog_that_cannot_be_read_is_said(tmp_path, content):
    if content is not None:
        (tmp_path / "c.parquet").write_bytes(content)
    with pytest.raises(DataError, match="no readable catalog"):
        load_catalog(tmp_path / "c.parquet")


def test_grey_is_told_from_colour():
    grey = np.repeat(np.random.default_rng(0).integers(4, 250, (1, 40, 40), np.uint8), 3, axis=0)
    assert is_grey(grey[:1]) and is_grey(grey) and is_grey(grey.astype(np.float32))
    jpeg = grey + np.array([0, 2, 1], np.uint8)[:, None, None]
    assert is_grey(jpeg)
    dot = grey.copy()
    dot[0, 13, 13] ^= 255
    assert not is_grey(dot) and not is_grey(np.stack([grey[0], 255 - grey[0], grey[0]]))


@pytest.mark.data
def test_pneumoniamnist_has_its_published_counts():
    path = SHARED / "pneumoniamnist" / "pneumoniamnist.npz"
    if not path.is_file():
        pytest.skip("../shared/data/pneumoniamnist is absent")
    catalog = build_catalog(path)
    counted = catalog.table.groupby(["split", "y"]).size().to_dict()
    published = {"train": (1214, 3494), "val": (135, 389), "test": (234, 390)}
    assert counted == {(split, y): n[y] for split, n in published.items() for y in (0, 1)}
