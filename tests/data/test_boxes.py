"""Boxes: VOC, COCO and tables; which image they are of; what is left out; and damaged or hostile files."""

import json
import math
import struct
import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from medprior.data.annotations import boxfiles
from medprior.data.annotations.boxes import Box, find_boxes, fit, place_boxes
from medprior.data.annotations.boxfiles import boxes_from_table, read_coco, read_voc
from medprior.data.annotations.label_table import read_label_table
from medprior.data.annotations.matching import Matcher
from medprior.errors import DataError

many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
numbers = st.floats(-5, 40, width=32)


def voc(boxes=(("cell", 3, 5, 10, 20),), filename="a.png", size=(0, 0)):
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = filename
    for edge, value in zip(("height", "width"), size, strict=True):
        place = root.find("size")
        ET.SubElement(ET.SubElement(root, "size") if place is None else place, edge).text = str(value)
    for name, *edges in boxes:
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = name
        box = ET.SubElement(item, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True):
            ET.SubElement(box, key).text = str(value)
    return ET.tostring(root)


def coco(boxes=((5, 3, 20, 10),), name="a.png", **image):
    return {
        "images": [{"id": 7, "file_name": name, **image}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 1, "bbox": list(b)} for i, b in enumerate(boxes)],
        "categories": [{"id": 1, "name": "cell"}],
    }


def write(folder, name, content):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return name


def found(folder, *sidecars, images=("a.png",), shapes=None):
    return find_boxes(folder, sidecars, images, shapes)


def test_voc_counts_from_one_and_includes_the_last(tmp_path):
    """xmin=1 to xmax=W is the whole width."""
    name = write(tmp_path, "a.xml", voc([("all", 1, 1, 30, 20), ("pixel", 2, 3, 2.5, 4)]))
    got = found(tmp_path, name, shapes={"a.png": (20, 30)})
    assert got.by_image == {"a.png": [Box("all", (0, 0, 20, 30)), Box("pixel", (2, 1, 4, 2.5))]}
    assert got.problems == []


def test_coco_gives_sizes(tmp_path):
    got = found(tmp_path, write(tmp_path, "x.json", coco()))
    assert got.by_image == {"a.png": [Box("cell", (3, 5, 13, 25))]}


TABLES = {
    "corners": "image,xmin,ymin,xmax,ymax,class\na.png,5,3,25,13,cell\na.png,1,1,2,2,dot\nb.png,,,,,\n",
    "x_min": "image_id;x_min;y_min;x_max;y_max;class_name\na;5;3;25;13;cell\na;1;1;2;2;dot\n",
    "x1": "X1,Y1,X2,Y2,path,label\n5,3,25,13,a.png,cell\n1,1,2,2,a.png,dot\n",
    "sizes": "patientId,x,y,width,height,class\na,5.0,3.0,20.0,10.0,cell\na,1,1,1,1,dot\n",
    "NIH": "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,cell,5,3,20,10,,,\na.png,dot,1,1,1,1,,,\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(tmp_path, kind):
    name = write(tmp_path, "boxes.csv", TABLES[kind].encode())
    got = found(tmp_path, name, images=["a.png", "b.png"])
    assert got.by_image == {"a.png": [Box("cell", (3, 5, 13, 25)), Box("dot", (1, 1, 2, 2))]}
    assert got.problems == []


def test_a_table_that_stands_elsewhere(tmp_path):
    table = read_label_table(tmp_path / write(tmp_path, "t/boxes.csv", TABLES["corners"].encode()))
    matcher = Matcher(["images/a.png", "images/b.png"], tmp_path, table.path.parent)
    got = place_boxes(boxes_from_table(table), "boxes.csv", matcher, {})
    assert list(got.by_image) == ["images/a.png"]


def test_a_table_of_labels_has_no_boxes(tmp_path):
    name = write(tmp_path, "labels.csv", b"image,label,x,y\na.png,1,2,3\n")
    assert (found(tmp_path, name).by_image, found(tmp_path, name).problems) == ({}, [])


BAD = {
    "no area": (("c", 4, 4, 4, 9), "no area"),
    "swapped": (("c", 9, 4, 4, 9), "ends before"),
    "outside": (("c", 50, 4, 60, 9), "outside"),
    "negative": (("c", -60, 4, -50, 9), "outside"),
    "not a number": (("c", "nan", 4, 5, 9), "four numbers"),
    "infinite": (("c", 1, 4, "inf", 9), "four numbers"),
    "text": (("c", 1, "four", 5, 9), "four numbers"),
    "absent": (("c", 1, "", 5, 9), "four numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_box_is_left_out_and_said_with_its_file(tmp_path, kind):
    box, reason = BAD[kind]
    name = write(tmp_path, "a.xml", voc([("good", 2, 2, 5, 5), box]))
    got = found(tmp_path, name, shapes={"a.png": (20, 30)})
    assert [b.name for b in got.by_image["a.png"]] == ["good"]
    assert [(note.path, note.kind) for note in got.problems] == [("a.xml", "doubt")]
    assert reason in got.problems[0].reason and "box 2" in got.problems[0].reason


@pytest.mark.parametrize(
    "box", [[1, 2, 0, 4], [1, 2, -3, 4], [math.nan, 2, 3, 4], [1, 2, 3], "box", [1, 2, None, 4], {}]
)
def test_a_bad_box_of_coco_is_left_out_and_said(tmp_path, box):
    content = coco([(5, 3, 20, 10)])
    content["annotations"].append({"id": 99, "image_id": 7, "category_id": 1, "bbox": box})
    got = found(tmp_path, write(tmp_path, "x.json", content))
    assert got.by_image == {"a.png": [Box("cell", (3, 5, 13, 25))]}
    assert len(got.problems) == 1 and "annotation 99" in got.problems[0].reason


def test_a_box_beyond_the_image_is_cut_and_said(tmp_path):
    name = write(tmp_path, "x.json", coco([(-4, 3, 20, 10), (10, 10, 20.5, 10)]))
    got = found(tmp_path, name, shapes={"a.png": (20, 30)})
    assert got.by_image["a.png"] == [Box("cell", (3, 0, 13, 16)), Box("cell", (10, 10, 20, 30))]
    assert [note.reason.split(": ")[1] for note in got.problems] == ["cut"]


@given(st.tuples(numbers, numbers, numbers, numbers), st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_a_box_that_is_kept_lies_in_its_image(edges, shape):
    fitted, reason = fit(Box("c", edges), shape)
    y0, x0, y1, x1 = edges
    meets = y0 < y1 and x0 < x1 and min(y1, shape[0]) > max(y0, 0) and min(x1, shape[1]) > max(x0, 0)
    assert (fitted is not None) == meets and (fitted is not None or reason)
    if fitted is not None:
        a, b, c, d = fitted.box
        assert 0 <= a < c <= shape[0] and 0 <= b < d <= shape[1]
        assert a >= y0 and b >= x0 and c <= y1 and d <= x1


def test_boxes_of_another_size_are_not_used(tmp_path):
    name = write(tmp_path, "a.xml", voc(size=(40, 60)))
    got = found(tmp_path, name, shapes={"a.png": (20, 30)})
    assert got.by_image == {} and "40 x 60" in got.problems[0].reason
    assert found(tmp_path, name, shapes={"a.png": (40, 60)}).problems == []


def test_images_are_found_by_name_stem_and_nearness(tmp_path):
    images = ["p/JPEGImages/a.png", "q/JPEGImages/a.png", "q/JPEGImages/b.jpg"]
    write(tmp_path, "q/Annotations/a.xml", voc(filename="C:\\old\\a.png"))
    write(tmp_path, "q/Annotations/0007.xml", voc(filename="b.png"))
    got = found(tmp_path, "q/Annotations/a.xml", "q/Annotations/0007.xml", images=images)
    assert sorted(got.by_image) == ["q/JPEGImages/a.png", "q/JPEGImages/b.jpg"] and got.problems == []


def test_a_copy_that_kept_what_it_said_is_about_the_image_it_is_called_after(tmp_path):
    write(tmp_path, "b.xml", voc(filename="a.png"))
    got = found(tmp_path, "b.xml", images=["a.png", "b.png"])
    assert list(got.by_image) == ["b.png"] and len(got.problems) == 1


def test_boxes_of_an_absent_image_are_said_once(tmp_path):
    content = coco()
    content["images"] += [{"id": 8, "file_name": "gone.png"}, {"id": 9, "file_name": "lost.png"}]
    content["annotations"] += [{"id": 3, "image_id": i, "bbox": [1, 1, 2, 2], "category_id": 1} for i in (8, 9, 10)]
    got = found(tmp_path, write(tmp_path, "x.json", content))
    assert sorted(note.reason.split(":")[0] for note in got.problems) == [
        "annotation 3 belongs to no image of the file",
        'it has boxes of "gone.png", and 1 more, which is no image here, or several',
    ]


def test_what_two_files_tell_alike_counts_once(tmp_path):
    names = [write(tmp_path, f"{i}.json", coco([(5, 3, 20, 10), (1, 1, 2, 2)][: i + 1])) for i in range(2)]
    assert len(found(tmp_path, *names).by_image["a.png"]) == 2


BOMB = (
    '<?xml version="1.0"{}?><!DOCTYPE annotation [<!ENTITY a "{}">]><annotation><filename>&a;</filename></annotation>'
)
HOSTILE = {
    "entity": BOMB.format("", "aaaa").encode(),
    "entity in UTF-16": BOMB.format(' encoding="utf-16"', "aaaa").encode("utf-16"),
    "file": b'<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>',
    "external": b'<!DOCTYPE annotation SYSTEM "http://localhost/x.dtd"><annotation><filename>a.png</filename></annotation>',
    "unknown encoding": b'<?xml version="1.0" encoding="klingon"?><annotation/>',
    "deep": b"<annotation>" * 400_000,
    "deep and closed": b"<annotation>" * 200_000 + b"<filename/>" + b"</annotation>" * 200_000,
    "cut": voc()[:-5],
    "large": b"<annotation>" + b" " * boxfiles.MOST_XML,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_xml_is_refused_or_empty(tmp_path, kind):
    name = write(tmp_path, "a.xml", HOSTILE[kind])
    got = found(tmp_path, name)
    assert got.by_image == {}
    if not kind.endswith("closed"):
        assert [note.path for note in got.problems] == ["a.xml"]
        with pytest.raises(DataError) as error:
            read_voc(tmp_path / name, name)
        assert error.value.where == name and "root:" not in str(error.value)


KEYS = b'{"images": [], "annotations": [], "bbox": '


@pytest.mark.parametrize("tail", [b"[" * 200_000, b"1" * 20_000 + b"}", b"\xff}", b"", b'"\\ud800'])
def test_hostile_json_is_refused(tmp_path, tail):
    name = write(tmp_path, "a.json", KEYS + tail)
    with pytest.raises(DataError):
        read_coco(tmp_path / name, name)


def test_other_files_are_passed_by(tmp_path):
    write(tmp_path, "a.json", {"question": "Is there a box?"})
    write(tmp_path, "a.xml", b"<!DOCTYPE svg><svg/>")
    write(tmp_path, "b.xml", b"no XML & no VOC")
    write(tmp_path, "c.csv", b"\x00\xff\xfe,,\n")
    got = found(tmp_path, "a.json", "a.xml", "b.xml", "c.csv", "absent.txt")
    assert (got.by_image, got.problems) == ({}, [])
    assert "cannot be" in found(tmp_path, "absent.json").problems[0].reason


edits = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["flip", "cut", "double", "insert"]), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)


def mutated(data, changes):
    for place, kind, more in changes:
        i = int(place * len(data))
        match kind:
            case "flip":
                data = data[:i] + more + data[i + len(more) :]
            case "cut":
                data = data[:i] + data[i + 9 :]
            case "double":
                data = data[:i] + data[max(0, i - 30) :]
            case "insert":
                data = data[:i] + more + data[i:]
    return data


@many
@given(edits, st.sampled_from(["a.xml", "a.json", "a.csv"]))
def test_damaged_files_only_raise_what_is_meant(tmp_path, changes, name):
    whole = {"a.xml": voc(size=(20, 30)), "a.json": json.dumps(coco()).encode(), "a.csv": TABLES["corners"].encode()}
    write(tmp_path, name, mutated(whole[name], changes))
    shape = (20, 30)
    got = found(tmp_path, name, shapes={"a.png": shape})
    assert all(note.path == name and note.kind == "doubt" for note in got.problems)
    for box in got.by_image.get("a.png", []):
        y0, x0, y1, x1 = box.box
        assert 0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["images", "annotations", "bbox", "id", "image_id", "file_name", "name"]), inner
        )
    ),
    max_leaves=12,
)


@many
@given(trees, trees, trees)
@example([{"id": [], "file_name": {}}], [{"bbox": {"x": 1}, "image_id": None}], [[]])
def test_any_json_is_survived(tmp_path, images, annotations, categories):
    content = {"images": images, "annotations": annotations, "categories": categories, "bbox": 0}
    name = write(tmp_path, "a.json", content)
    for box in found(tmp_path, name).by_image.get("a.png", []):
        assert all(map(math.isfinite, box.box)), struct.pack("4d", *box.box)


def of(folder):
    images = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".jpg", ".jpeg", ".png")]
    sidecars = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".xml", ".json", ".csv")]
    return images, sidecars


def test_a_note_shows_no_control_characters(tmp_path):
    (tmp_path / "boxes.csv").write_text("filename,xmin,ymin,xmax,ymax\n\x1b[2Ja.png,1,1,2,2\n", encoding="utf-8")
    (note,) = find_boxes(tmp_path, ["boxes.csv"], ["b.png"]).problems
    assert note.reason.isprintable() and r"\x1b[2Ja.png" in note.reason


@pytest.mark.data
def test_blood_cells_have_two_boxes_without_area(real_data):
    folder = real_data / "bccd"
    images, sidecars = of(folder)
    got = find_boxes(folder, sidecars, images, dict.fromkeys(images, (480, 640)))
    assert sorted(got.by_image) == sorted(images) and len(images) == 292
    assert {note.path for note in got.problems} == {f"Annotations/BloodImage_00{n}.xml" for n in (338, 343)}
    assert all("no area" in note.reason for note in got.problems) and len(got.problems) == 2
    assert {box.name for boxes in got.by_image.values() for box in boxes} == {"RBC", "WBC", "Platelets"}


@pytest.mark.data
def test_lungs_have_forty_boxes(real_data):
    folder = real_data / "covid-chestxray"
    images, sidecars = of(folder)
    shapes = {}
    for image in images:
        with Image.open(folder / image) as opened:
            shapes[image] = opened.size[::-1]
    got = find_boxes(folder, sidecars, images, shapes)
    assert (len(got.by_image), sum(map(len, got.by_image.values())), got.problems) == (20, 40, [])
    assert {box.name for boxes in got.by_image.values() for box in boxes} == {"Left Lung", "Right Lung"}


@pytest.mark.data
def test_other_folders_have_no_boxes(real_data):
    for name in ("vqa-rad", "covid-ct"):
        got = find_boxes(real_data / name, *of(real_data / name)[::-1])
        assert (got.by_image, got.problems) == ({}, [])
