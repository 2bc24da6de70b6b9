"""Labels joined from a table: matching, groups, splits, targets, and every way a table can be wrong."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medprior.data.annotations.join import _renamed, join_labels
from medprior.data.annotations.label_table import LabelTable
from medprior.data.annotations.targets import class_targets
from medprior.data.catalog import PATIENTS_UNKNOWN, build_catalog
from medprior.data.privacy import PatientKeys
from medprior.errors import LabelError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = [f"ward{i % 2}/scan_{i:02}.png" for i in range(20)]
tmp_is_shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    for i, name in enumerate(NAMES):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(root / name)
    return build_catalog(root, keys=PatientKeys())


def join(catalog, path, text, encoding="utf-8", **options):
    path = path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return join_labels(catalog, path, **options)


def rows(*columns, header):
    return "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]) + "\n"


def by_name(joined, column="y"):
    return dict(zip(joined.table["path"], joined.table[column], strict=True))


CLASSES = ["ill" if i % 3 == 0 else "well" for i in range(20)]
EXPECTED = {name: float(label == "well") for name, label in zip(NAMES, CLASSES, strict=True)}


@pytest.mark.parametrize("column", ["path", "File", "FILENAME", "image", "scan"])
@pytest.mark.parametrize("label", ["label", "Class", "target", "diagnosis", "finding", "y"])
def test_columns_are_told_by_their_names(catalog, tmp_path, column, label):
    joined = join(catalog, tmp_path, rows(NAMES, CLASSES, header=f"{column},{label}"))
    assert by_name(joined) == EXPECTED
    assert joined.labels.kind == "binary" and joined.labels.names == ("ill", "well")
    assert catalog.labels is None and "y" not in catalog.table


WAYS = {
    "as it is": lambda root, name: name,
    "leading dot": lambda root, name: f"./{name}",
    "backslashes": lambda root, name: name.replace("/", "\\"),
    "absolute": lambda root, name: str(root / name),
    "below the name of the root": lambda root, name: f"{root.name}/{name}",
    "windows": lambda root, name: "C:\\data\\" + name.replace("/", "\\"),
    "file name": lambda root, name: Path(name).name,
    "stem": lambda root, name: Path(name).stem,
    "another ending": lambda root, name: str(Path(name).with_suffix(".JPG")),
    "quoted with spaces": lambda root, name: f'"  {name} "',
}


@pytest.mark.parametrize("way", WAYS)
def test_images_are_found_however_they_are_written(catalog, tmp_path, way):
    cells = [WAYS[way](catalog.root, name) for name in NAMES]
    assert by_name(join(catalog, tmp_path, rows(cells, CLASSES, header="path,label"))) == EXPECTED


def test_paths_may_be_relative_to_the_table(catalog):
    folder = catalog.root / "tables"
    folder.mkdir(exist_ok=True)
    cells = [f"../{name}" for name in NAMES]
    assert by_name(join(catalog, folder, rows(cells, CLASSES, header="path,label"))) == EXPECTED


@tmp_is_shared
@given(st.permutations(range(20)), st.lists(st.sampled_from(sorted(WAYS)), min_size=20, max_size=20))
def test_the_order_and_spelling_of_rows_change_nothing(catalog, tmp_path, order, ways):
    cells = [WAYS[way](catalog.root, NAMES[i]) for i, way in zip(order, ways, strict=True)]
    joined = join(catalog, tmp_path, rows(cells, [CLASSES[i] for i in order], header="path,label"))
    assert by_name(joined) == EXPECTED


def test_accents_match_in_both_ways_of_unicode(tmp_path):
    (tmp_path / "scans").mkdir()
    for name in ("e\u0301.png", "b.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "scans" / name)
    joined = join(build_catalog(tmp_path / "scans"), tmp_path, "path,label\n\u00e9.png,0\nb.png,1\n")
    assert joined.targets().tolist() == [1, 0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_of_any_program_are_read(catalog, tmp_path, encoding, delimiter, newline):
    names = ["Müller" if c == "ill" else "well" for c in CLASSES]
    text = rows(NAMES, names, header="path,label").replace(",", delimiter).replace("\n", newline)
    joined = join(catalog, tmp_path, text, encoding)
    assert joined.labels.names == ("Müller", "well") and by_name(joined) == EXPECTED


def test_few_rows_without_image_are_named_and_left_out(catalog, tmp_path):
    text = rows([*NAMES, "absent.png"], [*CLASSES, "ill"], header="path,label")
    joined = join(catalog, tmp_path, text)
    assert "Row 21 of the labels match no image, or several: left out." in joined.warnings
    assert by_name(joined) == EXPECTED


def test_many_rows_without_image_stop_the_join_and_show_the_nearest(catalog, tmp_path):
    cells = [name.replace("scan_", "scam_") if i < 7 else name for i, name in enumerate(NAMES)]
    with pytest.raises(LabelError, match=r"7 of 20 rows \(35%\)") as refused:
        join(catalog, tmp_path, rows(cells, CLASSES, header="path,label"))
    lines = refused.value.do.splitlines()[1:]
    assert len(lines) == 5
    assert lines[0] == '  row 1: "ward0/scam_00.png": no such file; nearest: "scan_00.png"'


def test_ambiguous_rows_are_not_guessed(tmp_path):
    for ward in "ab":
        (tmp_path / ward).mkdir()
        for i in range(6):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / ward / f"{i}.png")
    catalog = build_catalog(tmp_path)
    with pytest.raises(LabelError, match="match no image, or several") as refused:
        join(catalog, tmp_path, rows([f"{i}.png" for i in range(6)], [0, 1] * 3, header="path,label"))
    assert 'row 1: "0.png": could be any of 2 files, such as a/0.png and b/0.png' in refused.value.do
    expected = {f"{ward}/{i}.png": float(ward == "b") for ward in "ab" for i in range(6)}
    for before, ending in (("", ".png"), ("hospital/", ".png"), ("D:\\\\", ".jpg"), ("./", "")):
        full = [before + name.replace(".png", ending) for name in expected]
        joined = join(catalog, tmp_path, rows(full, expected.values(), header="path,label"))
        assert by_name(joined) == expected  # their folders tell files of one name apart


def test_rows_about_unreadable_images_are_said_apart(tmp_path):
    for i in range(4):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"spoilt")
    names = [f"{i}.png" for i in range(4)]
    joined = join(build_catalog(tmp_path), tmp_path, rows(names, [0, 1, 0, 1], header="path,label"))
    assert "Row 4 of the labels name images that cannot be read." in joined.warnings and len(joined) == 3


def test_a_row_about_a_file_of_many_scans_holds_for_all(tmp_path):
    for name in "ab":
        pages = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(3)]
        pages[0].save(tmp_path / f"{name}.tif", save_all=True, append_images=pages[1:])
    joined = join(build_catalog(tmp_path, keys=PatientKeys()), tmp_path, "path,label,patient\na,ill,p\nb,well,q\n")
    assert joined.targets().tolist() == [0, 0, 0, 1, 1, 1] and joined.patients().tolist() == ["p"] * 3 + ["q"] * 3


PATIENTS = [f"p{i // 2}" for i in range(20)]


@pytest.mark.parametrize(
    ("column", "option"), [("patient", None), ("Patient_ID", None), ("subject", None), ("who", "WHO")]
)
def test_patients_group_images(catalog, tmp_path, column, option):
    text = rows(NAMES, CLASSES, PATIENTS, header=f"path,label,{column}")
    joined = join(catalog, tmp_path, text, patient=option)
    assert joined.patients_known and PATIENTS_UNKNOWN not in joined.warnings
    assert by_name(joined, "patient") == dict(zip(NAMES, PATIENTS, strict=True))


def test_without_patients_the_verdict_is_warned(catalog, tmp_path):
    joined = join(catalog, tmp_path, rows(NAMES, CLASSES, header="path,label"))
    assert not joined.patients_known and joined.warnings == [PATIENTS_UNKNOWN]
    assert joined.patients().tolist() == [f"image:{i}" for i in range(20)]


def test_unlabelled_images_without_patient_are_warned_of(catalog, tmp_path):
    joined = join(catalog, tmp_path, rows(NAMES[:12], CLASSES[:12], PATIENTS[:12], header="path,label,patient"))
    assert joined.patients_known and "8 images are not in the label table" in joined.warnings[0]


def test_splits_go_by_their_usual_names(catalog, tmp_path):
    told = ["train", "TEST", "val", "valid", "Validation", ""] * 3 + ["test", "train"]
    joined = join(catalog, tmp_path, rows(NAMES, CLASSES, told, header="path,label,Split"))
    expected = ["train", "test", "val", "val", "val", ""] * 3 + ["test", "train"]
    assert by_name(joined, "split") == dict(zip(NAMES, expected, strict=True))


@tmp_is_shared
@given(
    patients=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=20, max_size=20),
    splits=st.lists(st.sampled_from(["", "train", "val", "test"]), min_size=20, max_size=20),
)
def test_no_patient_crosses_and_the_test_set_never_changes(catalog, tmp_path, patients, splits):
    classes = ["ill", "well"] * 10
    text = rows(NAMES, classes, patients, splits, header="path,label,patient,split")
    try:
        joined = join(catalog, tmp_path, text)
    except LabelError as error:
        assert any(said in str(error) for said in ("two classes", "no image that was found", "no label is left"))
        return
    after = by_name(joined, "split")
    sides: dict[str, set[str]] = {}
    for name, patient, split in zip(NAMES, patients, splits, strict=True):
        assert after[name] in ("", split)
        if split == "test" or not patient:
            assert after[name] == split
        if patient and after[name]:
            sides.setdefault(patient, set()).add(after[name])
        if after[name] != split:
            assert np.isnan(by_name(joined)[name])
    assert all(len(found) == 1 for found in sides.values())
    dropped = sum(after[name] != split for name, split in zip(NAMES, splits, strict=True))
    assert any("more than one split" in warning for warning in joined.warnings) == (dropped > 0)


def test_crossing_patients_are_named_by_row_and_counted(catalog, tmp_path):
    splits = ["train", "test"] + ["train"] * 18
    joined = join(catalog, tmp_path, rows(NAMES, CLASSES, PATIENTS, splits, header="path,label,patient,split"))
    said = (
        "1 patient stands in more than one split: 1 image (row 1 of the labels) dropped from the earlier split; "
        "the published test set is unchanged."
    )
    assert said in joined.warnings and joined.table["labelled"].sum() == 19


def test_classes_that_are_numbers_are_sorted_as_numbers(catalog, tmp_path):
    joined = join(catalog, tmp_path, rows(NAMES, [(10, 9, "2.0", 2)[i % 4] for i in range(20)], header="path,label"))
    assert joined.labels.kind == "multiclass" and joined.labels.names == ("2", "9", "10")
    assert by_name(joined)[NAMES[0]] == 2 and by_name(joined)[NAMES[2]] == by_name(joined)[NAMES[3]] == 0


@pytest.mark.parametrize("nothing", ["", "NA", "nan", "N/A", "null"])
def test_an_empty_cell_is_unknown(catalog, tmp_path, nothing):
    cells = [nothing if i < 5 else CLASSES[i] for i in range(20)]
    joined = join(catalog, tmp_path, rows(NAMES, cells, PATIENTS, header="path,label,patient"))
    y = by_name(joined)
    assert all(np.isnan(y[name]) for name in NAMES[:5]) and joined.table["labelled"].sum() == 15
    assert (joined.table["patient"] != "").all()


@pytest.mark.parametrize("options", [{}, {"label": ["mass", "Effusion"]}])
def test_several_columns_of_0_and_1_are_findings(catalog, tmp_path, options):
    mass, effusion = [i % 2 for i in range(20)], ["" if i < 5 else float(i % 3 == 0) for i in range(20)]
    ages = [30 + i for i in range(20)]
    text = rows(NAMES, mass, effusion, ages, ["kcr"] * 20, header="path,mass,effusion,age,folder")
    joined = join(catalog, tmp_path, text, **options)
    assert joined.labels.kind == "multilabel" and joined.labels.columns == ("y:mass", "y:effusion")
    assert joined.targets().shape == (20, 2) and np.isnan(by_name(joined, "y:effusion")[NAMES[0]])
    assert by_name(joined, "y:mass") == dict(zip(NAMES, map(float, mass), strict=True))
    assert joined.table["labelled"].all()


def test_uncertain_findings_count_as_unknown_and_constant_ones_are_left_out(catalog, tmp_path):
    text = rows(NAMES, [-1, 0, 1, 0] * 5, [1, 0] * 10, [0] * 20, header="path,a,b,c")
    joined = join(catalog, tmp_path, text)
    assert joined.labels.names == ("a", "b")
    assert joined.warnings[:2] == [
        "Labels left out, for all their values are the same: c.",
        "5 labels are -1 (uncertain); they count as unknown.",
    ]


def test_one_row_that_repeats_another_is_dropped(catalog, tmp_path):
    text = rows([*NAMES, f"./{NAMES[2]}"], [*CLASSES, CLASSES[2]], header="path,label")
    joined = join(catalog, tmp_path, text)
    assert "Row 21 of the labels repeat an earlier row: dropped." in joined.warnings and by_name(joined) == EXPECTED


def test_rows_that_contradict_each_other_stop_the_join(catalog, tmp_path):
    text = rows([*NAMES, Path(NAMES[2]).stem], [*CLASSES, "ill"], header="path,label")
    with pytest.raises(LabelError, match=r"1 rows contradict .* \(rows 3 and 21\)"):
        join(catalog, tmp_path, text)


def test_labels_replace_those_the_files_carried(tmp_path):
    held = {"images": np.zeros((6, 8, 8), np.uint8), "labels": np.eye(6)}
    np.savez(tmp_path / "a.npz", **held)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "b.png")
    catalog = build_catalog(tmp_path)
    assert catalog.labels.kind == "multilabel"
    joined = join(catalog, tmp_path, "path,label\na.npz,0\nb.png,1\n")
    assert joined.targets().tolist() == [0] * 6 + [1] and not [c for c in joined.table if c.startswith("y:")]


NOT_USABLE = {
    "no column for the image": ("name,label\na,b\n", {}, "no column says which image"),
    "no column for the label": ("path,age\nscan_00,40\n", {}, "no column holds labels"),
    "a wrong label column": (rows(NAMES, CLASSES, header="path,label"), {"label": ["lable"]}, 'no column "lable"'),
    "a wrong patient column": (rows(NAMES, CLASSES, header="path,label"), {"patient": "labels"}, 'no column "labels"'),
    "nothing": ("", {}, "is empty"),
    "blank lines": ("\n\n  \n", {}, "is empty"),
    "a header only": ("path,label\n", {}, "a header and no rows"),
    "a column twice": ("path,label,label\nscan_00,a,b\n", {}, "stand twice: label"),
    "a short row": ("path,label\nscan_00,a\nscan_01\n", {}, "row 2 has 1 cells, the header 2"),
    "a long row": ("path,label\nscan_00,a,b\n", {}, "row 1 has 3 cells, the header 2"),
    "one class": (rows(NAMES, ["ill"] * 20, header="path,label"), {}, 'are "ill"; two classes are needed'),
    "no label at all": (rows(NAMES, [""] * 20, header="path,label"), {}, "no image that was found has a label"),
    "ids": (rows(NAMES, NAMES, header="path,label"), {}, "20 different values in 20 rows: an id or free text"),
    "no split": (rows(NAMES, CLASSES, ["fold1"] * 20, header="path,label,split"), {}, '"fold1" .* row 1, is no split'),
    "findings that are words": (
        rows(NAMES, CLASSES, [0, 1] * 10, header="path,a,b"),
        {"label": ["a", "b"]},
        '"ill" in column "a", row 1, is neither',
    ),
    "constant findings": (rows(NAMES, [0] * 20, [1] * 20, header="path,a,b"), {}, "one value only: a, b"),
    "absent files": (rows([f"x{i}" for i in range(5)], [0, 1] * 2 + [0], header="path,label"), {}, "5 of 5 rows"),
}


@pytest.mark.parametrize("trouble", NOT_USABLE)
def test_a_table_that_cannot_be_used_says_why(catalog, tmp_path, trouble):
    text, options, reason = NOT_USABLE[trouble]
    with pytest.raises(LabelError, match=reason) as refused:
        join(catalog, tmp_path, text, **options)
    assert refused.value.where == str(tmp_path / "labels.csv") and refused.value.do


def test_a_wrong_column_is_answered_with_the_nearest_and_the_list(catalog, tmp_path):
    with pytest.raises(LabelError) as refused:
        join(catalog, tmp_path, rows(NAMES, CLASSES, header="path,Diagnosis"), label=["diagnoses"])
    assert refused.value.do == 'Nearest: "Diagnosis". Columns: path, Diagnosis'


def test_measurements_are_no_classes():
    table = LabelTable(Path("t.csv"), {"y": [str(i % 20 / 7) for i in range(80)]}, list(range(1, 81)))
    with pytest.raises(LabelError, match="holds measurements"):
        class_targets(table, "y")


def test_an_absent_table_names_the_nearest(catalog, tmp_path):
    (tmp_path / "labels.csv").write_text("x")
    with pytest.raises(LabelError, match="cannot be opened") as refused:
        join_labels(catalog, tmp_path / "label.csv")
    assert refused.value.do == 'Nearest: "labels.csv"'


@pytest.mark.parametrize("content", [b"PK\x03\x04rest of a workbook", b"\x89PNG\0\0\0"])
def test_a_workbook_or_an_image_is_no_table(catalog, tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(LabelError, match=r"workbook|no text"):
        join_labels(catalog, tmp_path / "labels.csv")


@tmp_is_shared
@given(st.text(max_size=200) | st.text(alphabet='path,label;\n"01 \t', max_size=200))
def test_any_text_gives_labels_or_a_label_error(catalog, tmp_path, text):
    try:
        join(catalog, tmp_path, text, "utf-8" if text.isprintable() else "utf-16")
    except LabelError as error:
        assert error.where
    except UnicodeEncodeError:
        pass


def test_a_folder_is_no_table_and_the_tables_in_it_are_named(catalog, tmp_path):
    (tmp_path / "labels.csv").write_text("x")
    with pytest.raises(LabelError, match="this is a folder") as refused:
        join_labels(catalog, tmp_path)
    assert "labels.csv" in refused.value.do and "Nearest" not in refused.value.do


def test_a_table_of_very_many_columns_is_refused_quickly(catalog, tmp_path):
    begin = time.perf_counter()
    with pytest.raises(LabelError, match=r"30,001 columns, more than 2,000"):
        join(catalog, tmp_path, rows(NAMES, *[CLASSES] * 30_000, header=",".join(["path", *map(str, range(30_000))])))
    assert time.perf_counter() - begin < 30


def test_infinity_among_numbers_is_unknown_and_said(catalog, tmp_path):
    joined = join(catalog, tmp_path, rows(NAMES, ["inf", "-INF", *[0, 1] * 9], header="path,label"))
    assert joined.labels.names == ("0", "1") and joined.table["labelled"].sum() == 18
    assert '2 labels in column "label" are infinite; they count as unknown.' in joined.warnings


def test_a_class_that_is_called_inf_stays_one(catalog, tmp_path):
    assert join(catalog, tmp_path, rows(NAMES, ["inf", "sup"] * 10, header="path,label")).labels.names == ("inf", "sup")


def test_a_split_in_which_all_training_patients_are_tested_says_so(catalog, tmp_path):
    text = rows(NAMES, [0, 1] * 10, [i % 10 for i in range(20)], ["train"] * 10 + ["test"] * 10, header=CROSSED)
    with pytest.raises(LabelError, match="10 patients stand in more than one split") as refused:
        join(catalog, tmp_path, text)
    assert "one split" in refused.value.do
    kept = join(catalog, tmp_path, text.replace("train", "val"))
    assert kept.table["labelled"].sum() == 10, "nothing was there to learn from: it may be an external test set"


CROSSED = "path,label,patient,split"


def shared(name, **options):
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"../shared/data/{name} is absent")
    return join_labels(build_catalog(root), root / "labels.csv", **options)


@pytest.mark.data
def test_brain_tumour_mri():
    joined = shared("brain-tumor-mri")
    assert joined.labels.names == ("glioma", "meningioma", "none", "pituitary")
    assert joined.table["split"].value_counts().to_dict() == {"train": 2547, "test": 314}


@pytest.mark.data
def test_chest_x_rays_with_14_findings():
    joined = shared("nih-chestxray14-64px", patient="patient_id")
    positives = [73, 69, 146, 118, 22, 35, 10, 20, 32, 30, 21, 26, 20, 8]
    assert joined.targets().sum(axis=0).tolist() == positives and len(np.unique(joined.patients())) == 224
    assert (joined.table["channels"] == 3).all() and joined.table["grey"].all()
    assert (joined.table["split"] == "").all()


@pytest.mark.data
def test_covid_ct_patients_in_two_splits():
    joined = shared("covid-ct")
    assert any(warning.startswith("6 patients stand in more than one split") for warning in joined.warnings)
    assert (joined.table["split"] == "test").sum() == 203
    sides = joined.table[joined.table["split"] != ""].groupby("patient")["split"].nunique()
    assert (sides == 1).all()


def test_a_table_brings_modality_report_and_mask(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (6, 5), np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray((rng.random((6, 5)) > 0.5).astype(np.uint8) * 255).save(tmp_path / f"outline{i}.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "outline3.png")
    header = "path,label,mask,modality,report"
    lines = [f"{i}.png,{i % 2},outline{i}.png,{'X-ray' if i else ''},text {i}" for i in range(4)]
    joined = join(build_catalog(tmp_path), tmp_path, "\n".join([header, *lines]))
    assert joined.table["path"].tolist() == [f"{i}.png" for i in range(4)]
    assert joined.table["modality"].tolist() == [None, "DX", "DX", "DX"]
    assert joined.table["report"].tolist() == [f"text {i}" for i in range(4)]
    assert set(joined.read_mask(0).ravel()) == {0, 1} and joined.read_mask(3) is None
    (problem,) = joined.problems.to_dict("records")
    assert (problem["path"], problem["kind"]) == ("outline3.png", "doubt")
    assert "3 x 3 pixels, its image 6 x 5" in problem["reason"]


def test_columns_that_are_nearly_findings_are_said(catalog, tmp_path):
    cells = ["1", "", "2", "1", "-1", "0"] + ["0"] * 14
    joined = join(catalog, tmp_path, rows(NAMES, cells, [0, 1] * 10, header="path,A,B"))
    assert joined.labels.columns == ("y",)
    assert 'Left out, for they hold more than 0, 1 and empty cells: columns "A" of the labels.' in joined.warnings


def test_classes_that_differ_in_capitals_are_said(catalog, tmp_path):
    joined = join(catalog, tmp_path, rows(NAMES, ["ill", "Ill", "well", "well"] * 5, header="path,label"))
    assert 'Classes in column "label" that differ only in capital letters: "Ill", "ill".' in joined.warnings


def test_labels_of_several_files_are_not_mixed(tmp_path):
    for name in "ab":
        images = np.random.default_rng(0).integers(0, 255, (8, 9, 9), np.uint8)
        np.savez(tmp_path / f"{name}.npz", train_images=images, train_labels=np.arange(8)[:, None] % 2)
    catalog = build_catalog(tmp_path)
    assert catalog.labels is None and any("2 files carry labels of their own" in one for one in catalog.warnings)


def test_scans_the_table_does_not_name_follow_their_patient(tmp_path):
    """A header's identifier and a table's are often different words for one person."""
    known = np.array(["a", "a", "b", "", "c"])
    said = np.array(["7", "", "", "8", "9"])
    assert _renamed(known, said).tolist() == ["7", "7", "b", "8", "9"]


def test_a_mask_that_a_table_names_is_no_constant_image(tmp_path):
    Image.fromarray(np.arange(30, dtype=np.uint8).reshape(6, 5)).save(tmp_path / "a.png")
    Image.fromarray(np.arange(30, 60, dtype=np.uint8).reshape(6, 5)).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "outline.png")
    joined = join(build_catalog(tmp_path), tmp_path, "path,label,mask\na.png,1,outline.png\nb.png,0,")
    assert joined.problems["reason"].tolist() == ["the mask marks nothing"]
