"""Small valid files of every format and variant, made here: nothing real, and nothing that is not free."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES: dict[str, tuple[str, ...]] = {
    "raster": ("scan.png", "scan.jpg", "scan.tif", "scan.bmp", "scan.webp", "scan.gif"),
    "arrays": ("scan.npy", "scan.npz"),
    "volume": ("scan.nii", "scan.nii.gz", "scan.nrrd", "scan.nhdr", "scan.mha", "scan.mhd"),
    "dicom": ("scan.dcm", "scan"),
    "boxes": ("scan.xml", "boxes.json", "boxes.csv", "scan.txt"),
    "labels": ("labels.csv", "labels.tsv"),
}
"""What the first byte of an input chooses from."""


@cache
def seeds(family: str) -> tuple[bytes, ...]:
    """Inputs: the byte of the name, then a valid file."""
    if family == "dicom":
        import dicom_seeds

        made: Iterator[tuple[str, bytes]] = dicom_seeds.files()
    else:
        made = _MAKERS[family]()
    return tuple(bytes([NAMES[family].index(name)]) + content for name, content in made)


def companions(family: str) -> dict[str, bytes]:
    """Files that lie beside every input of the family."""
    if family == "dicom":
        import dicom_seeds

        return {
            f"fellow{n}.dcm": dicom_seeds.saved(dicom_seeds.slice_of_series(n), "1.2.840.10008.1.2.1") for n in (1, 2)
        }
    voxels = _volume().tobytes()
    packed = {"scan.raw": voxels, "scan.zraw": zlib.compress(voxels), "scan.raw.gz": gzip.compress(voxels, mtime=0)}
    return packed if family == "volume" else {}


def _image(*shape: int, dtype: str = "u1") -> NDArray[Any]:
    rng = np.random.default_rng(sum(shape))
    high = 255 if dtype == "u1" else 4000
    return (np.linspace(0, high / 2, int(np.prod(shape))).reshape(shape) + rng.integers(0, high // 2, shape)).astype(
        dtype
    )


def _volume() -> NDArray[Any]:
    return _image(4, 5, 6, dtype="i2")


def _raster() -> Iterator[tuple[str, bytes]]:
    from PIL import Image, PngImagePlugin

    colour = Image.fromarray(_image(12, 10, 3))
    grey, deep = Image.fromarray(_image(12, 10)), Image.fromarray(_image(12, 10, dtype="u2"))
    modes = {mode: colour.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F")} | {
        "I;16": deep
    }
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "plain")
    notes.add_text("Packed", "packed " * 20, zip=True)
    notes.add_itxt("Title", "ä", "de", "Titel", zip=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield "scan.png", _saved(modes[mode], "PNG")
    yield "scan.png", _saved(modes["P"], "PNG", transparency=3, pnginfo=notes, exif=turned)
    yield "scan.png", _saved(colour, "PNG", save_all=True, append_images=[colour.rotate(90)], icc_profile=bytes(200))
    for mode in ("L", "RGB", "CMYK"):
        yield "scan.jpg", _saved(modes[mode], "JPEG")
    yield "scan.jpg", _saved(colour, "JPEG", progressive=True, exif=turned, comment=b"hello")
    yield "scan.jpg", _saved(colour, "JPEG", subsampling=0, restart_marker_rows=1, icc_profile=bytes(300))
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate", "zstd", "lzma"):
        yield "scan.tif", _saved(colour, "TIFF", compression=packing)
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "I", "F", "I;16"):
        yield "scan.tif", _saved(modes[mode], "TIFF", **({"compression": "tiff_lzw"} if mode in ("L", "I;16") else {}))
    for packing in ("group3", "group4", "tiff_ccitt"):
        yield "scan.tif", _saved(modes["1"], "TIFF", compression=packing)
    yield "scan.tif", _saved(colour, "TIFF", compression="jpeg")
    yield "scan.tif", _saved(grey, "TIFF", save_all=True, append_images=[deep, modes["F"]], exif=turned)
    yield "scan.tif", _saved(grey, "TIFF", big_tiff=True)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield "scan.bmp", _saved(modes[mode], "BMP")
    yield "scan.bmp", _run_length_bmp()
    for mode, lossless in (("RGB", False), ("RGB", True), ("RGBA", False), ("RGBA", True)):
        yield "scan.webp", _saved(modes[mode], "WEBP", lossless=lossless, exif=turned)
    yield "scan.webp", _saved(colour, "WEBP", save_all=True, append_images=[colour.rotate(90)])
    for mode in ("L", "P", "RGBA"):
        yield "scan.gif", _saved(modes[mode], "GIF")
    yield "scan.gif", _saved(grey, "GIF", save_all=True, append_images=[grey.rotate(90)], comment=b"hello")


def _saved(image: Any, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _run_length_bmp() -> bytes:
    pixels = b"".join(b"\4\1\0\4\1\2\3\4\0\0" for _ in range(8)) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    offset = 14 + 40 + 1024
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + head + bytes(range(256)) * 4 + pixels


def _arrays() -> Iterator[tuple[str, bytes]]:
    for array in (
        _image(8, 9), _image(5, 6, 7).astype("<f4"), _image(8, 9, dtype=">i2"), _image(8, 9) > 90, _image(20, 6, 7),
        np.asfortranarray(_image(6, 8, 3)), _image(4, 6, 7, 3), _image(2, 5, 6, 7).astype("f8"),
        _image(8, 9).astype("c8"),
    ):  # fmt: skip
        yield "scan.npy", npy(array)
    yield "scan.npy", npy(_image(8, 9), version=(2, 0))
    yield "scan.npy", npy(np.array([[{"a": 1}, None]] * 5, dtype=object))
    yield "scan.npy", npy(np.zeros((8, 9), [("a", "i4"), ("b", "f4", (2,))]))
    medmnist = {
        f"{s}_{k}": v
        for s in ("train", "val", "test")
        for k, v in (("images", _image(3, 8, 8)), ("labels", _image(3, 1)))
    }
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield "scan.npz", npz(medmnist, packing)
        yield "scan.npz", npz({"images": _image(3, 8, 8, 3), "labels": np.eye(3), "patient_ids": np.arange(3)}, packing)
        yield "scan.npz", npz({"volume": _image(6, 7, 8).astype("f4"), "mask": _image(6, 7, 8) > 80}, packing)
    yield "scan.npz", npz({"objects": np.array([None] * 4, dtype=object)}, zipfile.ZIP_BZIP2)


def npy(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    """The bytes of an .npy."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version)
    return out.getvalue()


def npz(arrays: dict[str, NDArray[Any]], packing: int) -> bytes:
    """The bytes of an .npz."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array), packing)
    return out.getvalue()


def _volumes() -> Iterator[tuple[str, bytes]]:
    yield from _niftis()
    voxels = _volume().tobytes()
    head = "NRRD0005\n# made\ntype: {type}\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 5 4\n"
    head += "space directions: (0.5,0,0) (0,0.5,0) (0,0,2)\nspace origin: (1,2,3)\nkinds: domain domain domain\n"
    head += "endian: little\nencoding: {encoding}\n"
    text = " ".join(map(str, _volume().ravel())).encode()
    contents = {
        "raw": voxels,
        "gzip": gzip.compress(voxels, mtime=0),
        "bzip2": bz2.compress(voxels),
        "hex": voxels.hex().encode(),
        "ascii": text,
    }
    for encoding, content in contents.items():
        yield "scan.nrrd", head.format(type="short", encoding=encoding).encode() + b"\n" + content
    plain = b"NRRD0004\r\ntype: uchar\r\ndimension: 2\r\nsizes: 12 20\r\nspacings: 0.5 0.5\r\nencoding: raw\r\n\r\n"
    yield "scan.nrrd", plain + voxels
    colour = (
        b"NRRD0004\ntype: uchar\ndimension: 4\nsizes: 3 4 5 4\nkinds: RGB-color space space space\nencoding: raw\n\n"
    )
    yield "scan.nrrd", colour + voxels
    for encoding, name in (("raw", "scan.raw"), ("gzip", "scan.raw.gz")):
        yield "scan.nhdr", f"{head.format(type='int16', encoding=encoding)}byte skip: 0\ndata file: {name}\n".encode()
    yield "scan.nhdr", f"{head.format(type='int16', encoding='raw')}data file: LIST\nscan.raw\n".encode()
    yield from _metaimages(voxels, text)


def _metaimages(voxels: bytes, text: bytes) -> Iterator[tuple[str, bytes]]:
    head = "ObjectType = Image\nNDims = 3\nBinaryData = {binary}\nBinaryDataByteOrderMSB = False\n"
    head += "CompressedData = {packed}\n"
    head += (
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\nCenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\n"
    )
    head += "ElementSpacing = 0.5 0.5 2\nDimSize = 6 5 4\nElementType = MET_SHORT\n{more}ElementDataFile = {file}\n"
    yield "scan.mha", head.format(binary=True, packed=False, more="", file="LOCAL").encode() + voxels
    packed = zlib.compress(voxels)
    size = f"CompressedDataSize = {len(packed)}\n"
    yield "scan.mha", head.format(binary=True, packed=True, more=size, file="LOCAL").encode() + packed
    yield "scan.mha", head.format(binary=False, packed=False, more="", file="LOCAL").encode() + text
    more = "ElementNumberOfChannels = 2\nHeaderSize = -1\n"
    yield (
        "scan.mha",
        head.replace("6 5 4", "3 5 4").format(binary=True, packed=False, more=more, file="LOCAL").encode() + voxels,
    )
    for file in ("scan.raw", "LIST\nscan.raw", "link.raw", "../secret.raw"):
        yield "scan.mhd", head.format(binary=True, packed=False, more="", file=file).encode()
    yield (
        "scan.mhd",
        head.format(binary=True, packed=True, more=f"CompressedDataSize = {len(packed)}\n", file="scan.zraw").encode(),
    )


def _niftis() -> Iterator[tuple[str, bytes]]:
    import nibabel as nib

    affine = np.diag([-0.5, -0.5, 2.0, 1.0])
    oblique = np.array([[0.9, 0.1, 0, 1], [-0.1, 0.9, 0, 2], [0, 0.05, 3, 3], [0, 0, 0, 1.0]])
    for array in (
        _volume(),
        _volume().astype("u1"),
        _volume().astype("f4"),
        _volume().astype("f8"),
        _image(4, 5, 1, dtype="i2"),
    ):
        yield "scan.nii", nib.Nifti1Image(array, affine).to_bytes()
    scaled = nib.Nifti1Image(_volume(), oblique)
    scaled.header.set_slope_inter(2.0, -1024.0)
    scaled.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"hello"))
    colours = np.zeros((4, 5, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    contents = (
        scaled.to_bytes(),
        nib.Nifti2Image(_volume(), affine).to_bytes(),
        nib.Nifti1Image(_volume(), affine, nib.Nifti1Header(endianness=">")).to_bytes(),
        nib.Nifti1Image(_image(3, 4, 5, 2, dtype="i2"), affine).to_bytes(),
        nib.Nifti1Image(colours, affine).to_bytes(),
    )
    for content in contents:
        yield "scan.nii", content
        yield "scan.nii.gz", gzip.compress(content, 1, mtime=0)


def _boxes() -> Iterator[tuple[str, bytes]]:
    box = (
        "<object><name>mass</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8.5</ymax></bndbox></object>"
    )
    size = "<size><width>12</width><height>10</height><depth>1</depth></size>"
    yield "scan.xml", f"<annotation><filename>scan.png</filename>{size}{box}{box}</annotation>".encode()
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;"><!ENTITY f SYSTEM "../secret.raw">]>'
    yield "scan.xml", f"{bomb}<annotation><filename>&y;&f;</filename>{size}{box}</annotation>".encode()
    coco = {
        "images": [{"id": 1, "file_name": "scan.png", "width": 12, "height": 10}],
        "categories": [{"id": 1, "name": "mass"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3.5, 4], "area": 14, "iscrowd": 0}],
    }
    yield "boxes.json", json.dumps(coco).encode()
    yield "boxes.json", json.dumps([coco, {}, None]).encode()
    yield "boxes.csv", b"filename,xmin,ymin,xmax,ymax,class\nscan.png,1,2,9,8,mass\nscan.png,0,0,5,5,nodule\n"
    yield "scan.txt", "FINDINGS: No effusion.\nIMPRESSION: Nodule of 5 mm in the left upper lobe.\n".encode("utf-16")
    yield "boxes.csv", "path;x;y;width;height;label\nscan.png;1;2;3,5;4;Knötchen\n".encode("cp1252")


def _labels() -> Iterator[tuple[str, bytes]]:
    table = "path,patient,split,label\nscan.png,p1,train,1\nother.png,p2,test,0\nthird.png,p3,val,1\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        yield "labels.csv", table.encode(encoding)
    yield "labels.csv", table.replace(",", ";").encode()
    yield "labels.tsv", table.replace(",", "\t").encode()
    yield "labels.csv", b'path,patient,Effusion,Mass\nscan.png,p1,1,0\nother.png,p2,"0",\nthird.png,p3,-1,nan\n'
    yield "labels.csv", b'file,label\n"scan.png","a ""b"""\nother.png,"two\nlines"\nthird.png,x\n'


_MAKERS = {"raster": _raster, "arrays": _arrays, "volume": _volumes, "boxes": _boxes, "labels": _labels}
