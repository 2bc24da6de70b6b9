"""The data card: its numbers are those of independent counts, and nothing in it names a person, a folder or a file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medprior.data.annotations.join import join_labels
from medprior.data.card import SCHEMA, Card, make_card
from medprior.data.card.content import Kind, Leaks
from medprior.data.card.plainly import alike, plainly
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.catalogfile import load_catalog, save_catalog

VOC = """<annotation><filename>{name}</filename><size><width>48</width><height>40</height><depth>1</depth></size>
<object><name>nodule</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>
<object><name>rib</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>
"""
SECRETS = ("DOE", "ACC778812", "19480312")


def picture(seed: int, shape: tuple[int, int] = (40, 48)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (8, 8)), np.ones((5, 6))).astype(np.uint8)[: shape[0], : shape[1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images of 6 patients in folders with telling names: a copy across the split, masks, boxes, reports, damage."""
    root = tmp_path_factory.mktemp("hospital") / "DOE^JANE 19480312"
    lines = ["path,patient_id,split,nodule,effusion"]
    for i in range(12):
        name = f"images/DOE_JANE_ACC778812_{i:02}"
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0 if i == 11 else i)).save(root / f"{name}.png")
        split = "train" if i < 8 else "test"
        lines.append(f"{name}.png,DOE{i // 2},{split},{i % 2},{int(i % 3 == 0)}")
    (root / "masks").mkdir()
    for i in range(3):
        Image.fromarray((picture(i) > 128).astype(np.uint8) * 255).save(root / f"masks/DOE_JANE_ACC778812_{i:02}.png")
    (root / "images/DOE_JANE_ACC778812_04.xml").write_text(VOC.format(name="DOE_JANE_ACC778812_04.png"))
    (root / "images/DOE_JANE_ACC778812_05.txt").write_text("Mrs Doe has a nodule in the upper lobe of the left lung.")
    (root / "images/DOE_JANE_ACC778812_99.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (root / "labels of DOE.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Catalog:
    return join_labels(build_catalog(folder, workers=1), folder / "labels of DOE.csv", label=["nodule", "effusion"])


@pytest.fixture(scope="module")
def card(catalog: Catalog) -> Card:
    return make_card(catalog)


def test_counts_are_those_of_the_folder(card: Card) -> None:
    assert (card.scans, card.images, card.volumes) == (12, 12, 0)
    (kind,) = card.kinds
    assert (kind.readers, kind.types, kind.channels, kind.grey) == ({"raster": 12}, {"uint8": 12}, {"1": 12}, 0)
    assert kind.sizes[0].frequent == (((40, 48), 12),) and kind.sizes[0].spaced == 0
    assert card.patients.known == 6 and card.patients.scans_each == {"2": 6} and card.patients.most == 2
    assert {part.name: (part.images, part.labelled, part.patients) for part in card.splits} == {
        "train": (8, 8, 4),
        "test": (4, 4, 2),
    }


def test_labels_and_what_comes_together(card: Card) -> None:
    nodule, effusion = card.labels.labels
    assert (nodule.name, nodule.images, nodule.patients, nodule.splits) == ("nodule", 6, 6, {"train": 4, "test": 2})
    assert (effusion.images, effusion.patients) == (4, 4)
    both = sum(i % 2 == 1 and i % 3 == 0 for i in range(12))
    assert card.labels.together == ((6, both), (both, 4))
    assert card.labels.none == sum(i % 2 == 0 and i % 3 != 0 for i in range(12))


def test_classes_are_counted_by_image_and_patient(cohort: Path) -> None:
    catalog = join_labels(build_catalog(cohort.parent, workers=1), cohort)
    card = make_card(catalog)
    names = [catalog.labels.names[int(y)] for y in catalog.targets() if not np.isnan(y)]
    assert {one.name: one.images for one in card.labels.labels} == Counter(names)
    assert card.labels.together == () and card.labels.labelled == len(names)


def test_masks_boxes_and_reports(card: Card) -> None:
    beside = card.beside
    assert (beside.masks, beside.mask_values) == (3, {"0": 3, "255": 3})
    assert (beside.boxed, beside.boxes, beside.boxed_images) == (1, {"nodule": 1}, {"nodule": 1})
    assert (beside.reports, beside.different) == (1, 1) and beside.words is not None and beside.words.median == 13


def test_the_copy_across_the_split_comes_first(card: Card) -> None:
    assert card.leaks.counts["split"] == 1 and card.leaks.scans["split"] == 2
    assert card.leaks.found[0].rows == (0, 11) and card.leaks.found[0].splits == ("train", "test")
    assert card.leaks.found[0].same
    assert card.copies.exact == 1 and card.copies.pairs[0].rows == (0, 11) and card.copies.pairs[0].across == "split"
    assert card.findings[0].level == "mend" and "copies" in card.findings[0].said
    assert card.headline.startswith("12 images") and "6 patients" in card.headline
    assert f"{sum(one.level == 'mend' for one in card.findings)} things to mend" in card.headline


def test_problems_are_numbered_as_in_the_private_list(catalog: Catalog, card: Card) -> None:
    kinds = catalog.problems["kind"].tolist()
    assert card.problem_counts == Counter(kinds)
    assert sum(one.count for one in card.problems) == len(kinds)
    for problem in card.problems:
        assert {kinds[number - 1] for number in problem.numbers} == {problem.kind}
    assert card.problems[0].kind == "unreadable"


def test_shares_and_quantiles_are_those_of_the_pixels(catalog: Catalog, card: Card) -> None:
    (values,) = card.kinds[0].intensities
    pixels = np.concatenate([picture(0 if i == 11 else i).ravel() for i in range(12)])
    assert values.window == (0, 255) and values.varies is None and not values.relative
    assert sum(values.shares) == pytest.approx(1)
    assert (values.quantiles[0], values.quantiles[-1]) == (pixels.min(), pixels.max())
    middle = values.quantiles[values.ranks.index(50)]
    assert abs(middle - np.median(pixels)) < 12  # percentiles are kept at 17 ranks, and pooled linearly between them
    half = np.searchsorted(values.edges, 127.5)
    assert sum(values.shares[:half]) == pytest.approx((pixels < 127.5).mean(), abs=0.04)


def test_the_card_is_plain_json_without_names(card: Card) -> None:
    text = json.dumps(card.to_json(), allow_nan=False)
    assert json.loads(text)["schema"] == SCHEMA
    for secret in (*SECRETS, "hospital", "images/", "labels of", "upper lobe"):
        assert secret.casefold() not in text.casefold()


def test_rows_on_the_contact_sheet_are_spread_and_half_of_them_marked(catalog: Catalog, card: Card) -> None:
    rows = card.kinds[0].samples
    assert len(set(rows)) == len(rows)
    marked = {row for row in range(12) if catalog.table["mask"][row] or catalog.table["boxes"][row]}
    assert marked <= set(rows)


def test_scans_with_burnt_in_text_are_never_chosen(catalog: Catalog) -> None:
    from medprior.data.card.kinds import kinds
    from medprior.data.intensity import plan_intensity

    table = catalog.table.copy()
    table.loc[::2, "burnt"] = "ultrasound"
    (kind,) = kinds(table, plan_intensity(table), np.arange(12))
    assert kind.burnt == 6 and kind.samples and all(row % 2 for row in kind.samples)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("the file is truncated", "the file is truncated"),
        ("it is a copy of another slice at the same place and was left out", ...),
        (
            '6 patients stand in more than one split (column "ward of Dr Quint")',
            "6 patients stand in more than one split",
        ),
        ("box 13 (RBC) of Quint Vera/a b.jpg has no area (x 504 to 504, y 3 to 3): left out", None),
        ("the file is damaged (ValueError: could not convert 'QUINT^VERA' to float)", "the file is damaged"),
        ("the file is damaged (ValueError: Quint Vera 19480312)", "the file is damaged"),
        ("its transfer syntax JPEG XL (1.2.840.10008.1.2.4.112) cannot be decoded", "its transfer syntax JPEG XL"),
        ("it holds no image (Basic Text SR)", ...),
        ("the file claims 70,000 x 70,000 pixels", ...),
    ],
)
def test_reasons_keep_their_words_and_lose_names(reason: str, said: str | None) -> None:
    plain = plainly(reason)
    assert not {"quint", "vera", "19480312", "ward"} & set(plain.casefold().replace("^", " ").replace("/", " ").split())
    if said is ...:
        assert plain == reason
    elif said is not None:
        assert plain.startswith(said) or plain == said


def test_reasons_that_differ_in_numbers_alone_are_counted_together() -> None:
    assert alike("2 slices of 1,024, y 3.5 to 4") == "n slices of n, y n to n"


def test_a_catalog_that_was_kept_gives_the_same_card(catalog: Catalog, card: Card, tmp_path: Path) -> None:
    save_catalog(catalog, tmp_path / "catalog.parquet")
    assert make_card(load_catalog(tmp_path / "catalog.parquet")) == card


def test_a_split_that_parts_patients_is_to_mend_and_said_among_the_leaks(folder: Path, tmp_path: Path) -> None:
    """Patients 0 and 1 of the table stand in train and test: their 2 images in train lose their label."""
    lines = ["path,patient_id,split,nodule"]
    for i in range(12):
        split = "test" if i in (0, 2) or i >= 8 else "train"
        lines.append(f"images/DOE_JANE_ACC778812_{i:02}.png,DOE{0 if i < 2 else i // 4 + 1},{split},{i % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    joined = join_labels(build_catalog(folder, workers=1), tmp_path / "labels.csv", label=["nodule"])
    card = make_card(joined)
    said = (
        "2 patients stood in two splits: their 2 images were dropped from the earlier one; the test set is unchanged."
    )
    assert card.leaks.repaired == (said,)
    assert [one.level for one in card.findings if one.said == said] == ["mend"]
    assert not any("more than one split" in one.said for one in card.findings)


def test_a_table_beside_the_scans_is_not_the_one_that_was_repaired() -> None:
    from medprior.data.card.findings import _torn

    (beside,) = _torn(1, Leaks({}, {}, ()))
    (used,) = _torn(1, Leaks({}, {}, (), ("repaired",)))
    assert beside.level == "mend" and "Do not use" in beside.do
    assert used.level == "know" and "Do not use" not in used.do and used.said.startswith("A table beside the scans")


def test_doubts_are_no_all_clear_and_boxes_left_out_are_counted(tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "one.png")
    (tmp_path / "one.xml").write_text(VOC.format(name="one.png"))
    (tmp_path / "two.xml").write_text(VOC.format(name="one.png"))
    catalog = build_catalog(tmp_path, workers=1)
    card = make_card(catalog)
    doubts = (catalog.problems["kind"] == "doubt").sum()
    left_out = catalog.problems["reason"].str.contains("has no area").sum()
    assert doubts and left_out == 2 and card.headline.endswith(f"; nothing to mend, {doubts} doubts to know.")
    assert "2 boxes were left out." in [one.said for one in card.findings]
    (tmp_path / "one.xml").unlink()
    (tmp_path / "two.xml").unlink()
    assert make_card(build_catalog(tmp_path, workers=1)).headline.endswith("nothing was found that needs mending.")


def kinds_of(catalog: Catalog, table: pd.DataFrame, original: np.ndarray) -> tuple[Kind, ...]:
    from medprior.data.card.kinds import kinds
    from medprior.data.intensity import plan_intensity

    return kinds(table, plan_intensity(catalog.table), original)


def test_every_kind_has_a_picture_though_all_are_copies(catalog: Catalog) -> None:
    """Rows 0 to 5 are copies of row 8, which is of another modality; and a copy of what has text is not drawn."""
    table = catalog.table.assign(modality=["CR"] * 6 + ["DX"] * 6, mask=None, boxes=None)
    original = np.array([8] * 6 + list(range(6, 12)))
    by_name = {kind.modality: kind for kind in kinds_of(catalog, table, original)}
    assert by_name["CR"].samples == (0,) and by_name["DX"].samples == tuple(range(6, 12))
    table.loc[8, "burnt"] = "ultrasound"
    by_name = {kind.modality: kind for kind in kinds_of(catalog, table, original)}
    assert by_name["CR"].samples == () and by_name["DX"].samples == (6, 7, 9, 10, 11)


def test_the_range_of_sizes_names_sizes_that_are_there(catalog: Catalog) -> None:
    shapes = [[40, 90], [60, 50], [30, 70], *[[40, 48]] * 9]
    (kind,) = kinds_of(catalog, catalog.table.assign(shape=shapes), np.arange(12))
    assert (kind.sizes[0].least, kind.sizes[0].most) == ((40, 48), (40, 90))


def test_spacing_that_differs_in_plane_is_said_for_both_axes(catalog: Catalog) -> None:
    """Width first, as sizes are."""
    from medprior.report.card.words import spacing_text

    for spacing, said in (([2.0, 4.0], "4 × 2 mm in plane"), ([2.0, 2.0], "2 mm in plane")):
        table = catalog.table.assign(spacing=[spacing] * 12)
        (kind,) = kinds_of(catalog, table, np.arange(12))
        assert spacing_text(kind.sizes[0]) == said


def test_near_copies_without_distance_are_not_called_the_same_pixels(catalog: Catalog) -> None:
    from medprior.data.card.trust import said_leaks
    from medprior.data.duplicates.leaks import Leak
    from medprior.report.card.sections import _apart

    found = [Leak("split", (0, 1), ("train", "test"), 0.0), Leak("split", (2, 3), ("train", "test"), 0.0)]
    near, exact = said_leaks(found, np.array(["a", "b", "c", "c"])).found
    assert (_apart(near), _apart(exact)) == ("under 0.001", "same pixels")
