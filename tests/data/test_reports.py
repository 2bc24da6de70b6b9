"""Reports beside images, and what is none; modalities as people write them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medprior.data.annotations.modalities import CODES, HINTS, MODALITIES, modality_code, modality_hint
from medprior.data.annotations.reports import MOST_BYTES, find_reports

PROSE = "Heart size normal.\nNo pleural effusion, 3 mm nodule."
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)

PLACES = {
    "beside": ("x/a.png", "x/a.txt"),
    "at the root": ("a.nii.gz", "a.txt"),
    "in reports beside": ("images/a.png", "reports/a.txt"),
    "in reports below": ("a.png", "reports/a.txt"),
    "in a tree": ("d/images/a.jpg", "d/txt/a.txt"),
    "of a study": ("p10/s5/a.jpg", "p10/s5.txt"),
    "in capitals": ("x/A.PNG", "x/a.TXT"),
    "of DICOM": ("x/a.dcm", "x/a.txt"),
}


def write(folder, name, content=PROSE):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


@pytest.mark.parametrize("place", PLACES)
def test_reports_are_found(tmp_path, place):
    image, text = PLACES[place]
    write(tmp_path, text)
    assert find_reports(tmp_path, [text], [image, "other/b.png"]) == {image: PROSE}


def test_a_study_has_one_report_for_all_its_images(tmp_path):
    write(tmp_path, "p/s1.txt")
    images = ["p/s1/a.jpg", "p/s1/b.jpg", "p/s2/a.jpg", "p/s1/deeper/c.jpg"]
    assert sorted(find_reports(tmp_path, ["p/s1.txt"], images)) == ["p/s1/a.jpg", "p/s1/b.jpg"]


def test_the_nearest_text_counts(tmp_path):
    names = [write(tmp_path, "reports/a.txt", "Text from the other folder"), write(tmp_path, "images/a.txt")]
    assert find_reports(tmp_path, names, ["images/a.png"]) == {"images/a.png": PROSE}


def test_two_images_of_that_name_are_no_guess(tmp_path):
    name = write(tmp_path, "reports/a.txt")
    assert find_reports(tmp_path, [name], ["one/a.png", "two/a.png"]) == {}


NONE = {
    "readme": ("README.txt", "README.png", PROSE),
    "split": ("train.txt", "train/1.png", PROSE),
    "list of files": ("fold1.txt", "fold1/1.png", "fold1/1.png\nfold1/2.png\n"),
    "list of stems": ("fold1.txt", "fold1/ab.png", "ab\nab\nab\n"),
    "list with labels": ("x.txt", "x.png", "a.png 0\nb.png 1\n"),
    "boxes": ("a.txt", "a.png", "0 0.51 0.2 0.1 0.3\n1 0.4 0.4 0.1 0.1\n"),
    "bytes": ("a.txt", "a.png", b"abcdefgh\x00\x01\x02ijklmnop"),
    "empty": ("a.txt", "a.png", "  \n"),
    "large": ("a.txt", "a.png", "word " * (MOST_BYTES // 5 + 1)),
    "of another": ("b.txt", "a.png", PROSE),
    "of another kind": ("a.md", "a.png", PROSE),
    "of another folder": ("y/a.txt", "x/a.png", PROSE),
}


@pytest.mark.parametrize("kind", NONE)
def test_what_is_no_report(tmp_path, kind):
    name, image, content = NONE[kind]
    write(tmp_path, name, content)
    assert find_reports(tmp_path, [name, "absent.txt"], [image, "absent.png"]) == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path, encoding):
    said = "Röntgen: kein Erguß, Größe normal"
    name = write(tmp_path, "a.txt", said.encode(encoding))
    assert find_reports(tmp_path, [name], ["a.png"]) == {"a.png": said}


@many
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-16", "surrogatepass")))
def test_any_bytes_are_survived(tmp_path, data):
    name = write(tmp_path, "a.txt", data)
    assert all(text.strip() for text in find_reports(tmp_path, [name], ["a.png"]).values())


@pytest.mark.data
def test_real_folders_have_no_reports_in_files(real_data):
    for name in ("bccd", "covid-chestxray", "vqa-rad"):
        paths = [p.relative_to(real_data / name).as_posix() for p in (real_data / name).rglob("*") if p.is_file()]
        assert find_reports(real_data / name, [p for p in paths if p.endswith(".txt")], paths) == {}


SAID = {
    "X-ray": "DX", "x ray": "DX", "CXR": "DX", "CT": "CT", "ct": "CT", "MR": "MR", "MRI": "MR", "US": "US", "us": "US",
    "Ultrasound": "US", "fundus": "OP", "Fundus_photography": "OP", "histology": "SM", "Mammography": "MG", "PET": "PT",
    "PT": "PT", "OCT": "OPT", "CR": "CR", "dx": "DX", "": None, "-": None, "banana": None, "CTX": None, "0": None,
}  # fmt: skip


@pytest.mark.parametrize("text", SAID)
def test_modality_code(text):
    assert modality_code(text) == SAID[text]


@given(st.text(max_size=20))
def test_any_text_has_a_code_or_none(text):
    assert modality_code(text) in CODES | {None}


def test_codes_and_names_mean_themselves():
    assert all(modality_code(code) == code for code in CODES)
    assert all(modality_code(name.title().replace(" ", "-")) == code for name, code in MODALITIES.items())
    assert set(HINTS.values()) <= CODES


HINTED = {
    "CT/a.png": "CT", "covid-ct/images/a.png": "CT", "Brain_MRI/x/a.nii": "MR", "chest x-ray/a.png": "DX",
    "nih-chestxray14-64px/a.png": "DX", "ChestXray/a.png": "DX", "ct/mri/a.png": "MR", "pet-ct/a.png": None,
    "scans/ct.png": None, "Mr_Smith/a.png": None, "MR/a.dcm": "MR", "mr/a.dcm": "MR", "petra/a.png": None,
    "Project/a.png": None, "fundus/a.jpg": "OP", "US/a.png": None, "ct-slices-unlabelled/images/a.jpg": "CT",
}  # fmt: skip


@pytest.mark.parametrize("path", HINTED)
def test_modality_hint(path):
    assert modality_hint(path) == HINTED[path]
