"""What is written for a scan is called as the scan, and two scans never share a name."""

from medprior.data.scan import Source
from medprior.data.writers.names import names_of


def named(*sources: Source) -> list[str]:
    return names_of(sources, "my scans", ".nii.gz")


def test_files_keep_their_folders_and_names() -> None:
    scans = [Source("volume", (path,)) for path in ("a/b/case.1.nii.gz", "case.mha", "IM0001")]
    assert named(*scans, Source("volume", ("head.mhd", "head.raw"))) == [
        "a/b/case.1.nii.gz", "case.nii.gz", "IM0001.nii.gz", "head.nii.gz"
    ]  # fmt: skip


def test_one_name_is_given_once() -> None:
    scans = [Source("volume", (path,)) for path in ("a.nii", "a.nii.gz", "A.mha", "a-2.nrrd", "b/a.nii")]
    assert named(*scans) == ["a.nii.gz", "a-2.nii.gz", "A-3.nii.gz", "a-2-2.nii.gz", "b/a.nii.gz"]


def test_arrays_and_frames_are_told_apart_and_lead_nowhere_else() -> None:
    scans = [Source("arrays", ("x/all.npz",), "../../images", frame) for frame in (0, 1)]
    assert named(*scans) == ["x/all-.._.._images-0000.nii.gz", "x/all-.._.._images-0001.nii.gz"]
    assert named(Source("raster", ("pages.tif",), frame=3)) == ["pages-0003.nii.gz"]


def test_a_series_is_called_as_its_folder_where_it_is_alone_there() -> None:
    alone = Source("dicom", ("p1/ct/0.dcm", "p1/ct/1.dcm"))
    two = [Source("dicom", (f"p2/{i}.dcm", f"p2/{i + 1}.dcm")) for i in (0, 40)]
    film = Source("dicom", ("p1/ct/scout.dcm",))
    assert named(alone, *two, film) == ["p1/ct.nii.gz", "p2/0.nii.gz", "p2/40.nii.gz", "p1/ct/scout.nii.gz"]
    assert named(Source("dicom", ("0.dcm", "1.dcm"))) == ["my_scans.nii.gz"]
