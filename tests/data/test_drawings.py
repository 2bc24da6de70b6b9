"""Outlines in XML: polygons to pixels, files of Aperio ImageScope, and the masks that images get from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medprior.data.annotations.aperio import Drawing, Layer, Region, read_aperio
from medprior.data.annotations.outlined import label_by_masks
from medprior.data.annotations.polygons import fill
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.catalogfile import load_catalog, save_catalog
from medprior.data.volumestore.volumes import VolumeStore
from medprior.errors import DataError, LabelError

SQUARE = ((2, 3), (10, 3), (10, 9), (2, 9))
HOLE = ((4, 5), (6, 5), (6, 7), (4, 7))


def region(vertices, kind=0, negative=0, number=1):
    points = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in vertices)
    return f'<Region Id="{number}" Type="{kind}" NegativeROA="{negative}"><Vertices>{points}</Vertices></Region>'


def layer(*regions, name="", number=1):
    """As ImageScope writes one, in little."""
    head = f'<Annotation Id="{number}" Name="{name}" LineColor="65280"><Attributes/>'
    return f"{head}<Regions><RegionAttributeHeaders/>{''.join(regions)}</Regions><Plots/></Annotation>"


def xml(path, *layers, microns='MicronsPerPixel="0.252000"'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<Annotations {microns}>{''.join(layers)}</Annotations>")
    return path


def inside(vertices, shape):
    """Whether centres of pixels lie inside, by counting the edges to their right: an implementation of its own."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if y0 != y1:
            found ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_pixels_whose_centre_lies_inside_are_filled(seed):
    """Stars that cross themselves and leave the image on every side."""
    rng = np.random.default_rng(seed)
    vertices, shape = rng.uniform(-8, 28, (rng.integers(3, 12), 2)), (20, 17)
    found = np.zeros(shape, bool)
    box, pixels = fill(vertices, shape)
    found[box] = pixels
    np.testing.assert_array_equal(found, inside(vertices, shape))


def test_a_polygon_outside_of_its_image_fills_nothing():
    box, pixels = fill(np.array([(40.0, 40), (50, 40), (50, 50)]), (20, 20))
    assert pixels.size == 0 and np.zeros((20, 20))[box].size == 0


def test_regions_are_joined_holes_are_cut_and_rulers_mark_nothing(tmp_path):
    file = xml(
        tmp_path / "a.xml",
        layer(region(SQUARE), region(HOLE, negative=1), region([(0, 0), (1, 1)], kind=4), name="nuclei"),
        layer(region([(12, 2), (15, 6)], kind=1), region([(2, 12), (12, 18)], kind=2), name="stroma", number=2),
    )
    drawing = read_aperio(file, "a.xml")
    labels = drawing.rasterise((1, 2), (20, 20))
    expected = np.zeros((20, 20), int)
    expected[3:9, 2:10], expected[5:7, 4:6], expected[2:6, 12:15] = 1, 0, 2
    np.testing.assert_array_equal(labels[:10], expected[:10])
    assert abs((labels[10:] == 2).sum() - np.pi * 5 * 3) < 2  # an ellipse
    assert drawing.microns == 0.252 and [one.name for one in drawing.layers] == ["nuclei", "stroma"]


def test_two_resolutions_give_the_same_share_of_the_image():
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = Drawing((Layer("", (Region(np.stack([30 + 20 * np.cos(turns), 30 + 20 * np.sin(turns)], 1)),)),))
    small, large = (circle.rasterise((1,), (n, n), n / 60).mean() for n in (60, 240))
    assert small == pytest.approx(large, abs=2e-3) and circle.beyond((60, 60)) == 0 == circle.overlap((60, 60))
    assert circle.beyond((60, 60), 1.5) == pytest.approx(15, abs=0.1)


def collection(root: Path, *drawings: str, folder="Annotations") -> Path:
    """Images in MoNuSeg's folders, and their XML."""
    for number, drawn in enumerate(drawings):
        (root / "Tissue Images").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (20, 16, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"Tissue Images/TCGA-{number}.png")
        if drawn:
            xml(root / folder / f"TCGA-{number}.xml", drawn)
    return root


def reasons(catalog: Catalog) -> dict[str, str]:
    return dict(zip(catalog.problems["path"], catalog.problems["reason"], strict=True))


def test_drawings_are_the_masks_of_images_of_their_name(tmp_path):
    root = collection(tmp_path, *[layer(region(SQUARE))] * 3, "")
    catalog = label_by_masks(build_catalog(root, workers=1))
    assert catalog.labels.names == ("foreground",) and catalog.table["labelled"].tolist() == [True] * 3 + [False]
    assert catalog.read_mask(0).shape == (20, 16) and catalog.read_mask(0).sum() == 48
    save_catalog(catalog, tmp_path / "catalog.parquet")
    again = load_catalog(tmp_path / "catalog.parquet")
    np.testing.assert_array_equal(again.read_mask(2), catalog.read_mask(2))
    store = VolumeStore.build(catalog, tmp_path / "store", masks=True, workers=1)
    assert [store.has_mask(row) for row in range(4)] == [True] * 3 + [False]


def test_layers_are_classes_by_name_over_the_whole_collection(tmp_path):
    stroma = layer(region(HOLE), name="stroma")
    root = collection(tmp_path, layer(region(SQUARE), name="gland") + stroma, *[stroma] * 2)
    catalog = label_by_masks(build_catalog(root, workers=1))
    assert catalog.labels.names == ("gland", "stroma")
    np.testing.assert_array_equal(catalog.targets(), [[1, 1], [0, 1], [0, 1]])
    assert [np.unique(catalog.read_mask(row)).tolist() for row in range(3)] == [[0, 1, 2], [0, 2], [0, 2]]
    assert "its layers share 4 pixels" in reasons(catalog)["Annotations/TCGA-0.xml"]


def test_drawings_may_lie_in_a_folder_of_masks_elsewhere(tmp_path):
    root = collection(tmp_path / "scans", *[layer(region(SQUARE))] * 2, folder="../drawn")
    catalog = label_by_masks(build_catalog(root, workers=1), tmp_path / "drawn")
    assert catalog.table["labelled"].all() and catalog.read_mask(1).sum() == 48


BOMB = '<!DOCTYPE a [<!ENTITY b "boom"><!ENTITY c "&b;&b;&b;">]><Annotations>&c;</Annotations>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><Annotations>&b;</Annotations>'
DAMAGED = {
    "a bomb": (BOMB, "declares a document type"),
    "another file": (OUTSIDE, "declares a document type"),
    "cut": (f"<Annotations>{layer(region(SQUARE))}"[:150], "no well-formed XML"),
    "no number": (layer(region([("left", 1), (2, 2), (3, 4)], number=7), number=2), "region 7 of annotation 2 has a"),
    "not finite": (layer(region([("nan", 1), (2, 2), (3, 4)])), "region 1 of annotation 1 has a vertex without a num"),
    "a line": (layer(region(SQUARE), region(SQUARE[:2], number=9)), "region 9 of annotation 1 has 2 vertices"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_with_its_region_and_the_others_stay(tmp_path, name):
    text, said = DAMAGED[name]
    root = collection(tmp_path, *[layer(region(SQUARE))] * 3)
    file = root / "Annotations/TCGA-1.xml"
    file.write_text(text if "Annotations>" in text else f"<Annotations>{text}</Annotations>")
    catalog = label_by_masks(build_catalog(root, workers=1))
    assert catalog.table["labelled"].tolist() == [True, False, True]
    reason = reasons(catalog)["Annotations/TCGA-1.xml"]
    assert reason.startswith("not used: ") and said in reason
    with pytest.raises(DataError) as refused:
        read_aperio(file, "TCGA-1.xml")
    assert refused.value.where == "TCGA-1.xml"


def test_what_is_odd_about_a_drawing_is_said(tmp_path):
    far = tuple((x + 10, y) for x, y in SQUARE)
    root = collection(tmp_path, layer(region(SQUARE)), layer(region(far)), layer(region(SQUARE)))
    (root / "Annotations/TCGA-2.xml").rename(root / "Annotations/other.xml")
    said = reasons(build_catalog(root, workers=1))
    assert "reaches 4 pixels beyond its image" in said["Annotations/TCGA-1.xml"]
    assert "its image is not there" in said["Annotations/other.xml"]
    xml(tmp_path / "voc.xml").write_text("<annotation><object/></annotation>")
    assert read_aperio(tmp_path / "voc.xml", "voc.xml") is None


def test_named_layers_beside_masks_of_pixels_are_not_mixed(tmp_path):
    root = collection(tmp_path, layer(region(SQUARE), name="gland"), "")
    mask = np.zeros((20, 16), np.uint8)
    mask[2:5] = 1
    Image.fromarray(mask).save(root / "Annotations/TCGA-1.png")
    catalog = label_by_masks(build_catalog(root, workers=1))
    assert catalog.table["labelled"].tolist() == [False, True]
    assert "all as XML, or all as masks" in reasons(catalog)["Annotations/TCGA-0.xml"]


def test_nothing_drawn_is_no_label(tmp_path):
    with pytest.raises(LabelError, match="2 masks mark nothing"):
        label_by_masks(build_catalog(collection(tmp_path, *[layer()] * 2), workers=1))
