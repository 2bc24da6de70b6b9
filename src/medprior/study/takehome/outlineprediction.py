"""Using an outliner on new scans: a label map in the space of each, and a table of what was measured."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.data.annotations.masklabels import colour_numbers
from medprior.data.catalog import Catalog, build_catalog
from medprior.data.readers import read
from medprior.data.scan import Source
from medprior.data.volumestore.plan import KINDS, content_key
from medprior.data.volumestore.resident import ResidentVolumes
from medprior.data.volumestore.volumes import VolumeStore
from medprior.data.writers.names import names_of
from medprior.data.writers.nifti import write_labels
from medprior.data.writers.png import write_label_image
from medprior.errors import DataError, OutputError
from medprior.files import alone_in, make_folder, said_plainly, write_text
from medprior.progress import Progress, silent
from medprior.study.outlining import Labels, labels_of
from medprior.study.takehome.outlinetable import UNLIKE, Outline, table_of
from medprior.study.takehome.predicted import Predicted, unreadable_said
from medprior.tasks.outliner import Outliner, fingerprint
from medprior.tasks.segmentation import Segmenter
from medprior.training.device import pick_device
from medprior.training.segment import predict_logits
from medprior.training.windowfeatures import scan_features

FOLDER, TABLE, RECORD, INDEX = "outlines", "predictions.csv", "outlines.jsonl", "index.parquet"
_ENDINGS = {2: ("raster", ".png"), 3: ("volume", ".nii.gz")}


def outline_scans(
    folder: Path, scans: Path, out: Path, *, anyway: bool = False, progress: Progress = silent
) -> Predicted:
    """Write a label map for every scan that fits, below `outlines/`, and `predictions.csv`: one row per scan with the
    voxels and the volume of each class, or the reason why there is no outline.

    A scan unlike those the model was made from gets none unless `anyway`.

    An outline that is there already is kept if the same model drew it on the same scan, so that the same command goes
    on where it was stopped; what somebody mended in it stays, and is counted as it is now.

    Raises:
        RunError: no outliner in `folder`. DataError: no scan can be outlined at all.
        OutputError: no space, no permission, or another medprior works in `out`.
    """
    outliner, model = Outliner.load(folder)
    if out.resolve() == scans.resolve():
        do = "Choose another --out: outlines in it would be read as scans the next time"
        raise OutputError("the outlines cannot lie in the folder of scans itself", where=str(out), do=do)
    make_folder(out)
    with alone_in(out):
        catalog = build_catalog(scans, cache=out / INDEX, progress=progress)
        model = model.to(pick_device())
        drawn = write_outlines(outliner, model, fingerprint(folder), catalog, out, anyway=anyway, progress=progress)
        write_text(out / TABLE, table_of(catalog, outliner, drawn))
    return _said(catalog, drawn, out, outliner)


def write_outlines(
    outliner: Outliner,
    model: Segmenter,
    key: str,
    catalog: Catalog,
    out: Path,
    *,
    anyway: bool = False,
    progress: Progress = silent,
) -> list[Outline]:
    """An `Outline` for every row of the catalog; one scan at a time is in memory.

    Args:
        key: what tells this outliner from others.
        anyway: outline also scans unlike those of the training.

    Raises:
        DataError: none of the scans fits. OutputError: no space, no permission.
    """
    drawn = [Outline(reason=_unfit(outliner, row)) for row in catalog.table.to_dict("records")]
    fitting = [row for row, outline in enumerate(drawn) if not outline.reason]
    if not fitting:
        what = f"none of the {len(drawn):,} scans can be outlined; the first: {drawn[0].reason}"
        raise DataError(what, where=str(catalog.root), do="Give scans like those the model was made from")
    names = names_of([catalog.source(row) for row in fitting], catalog.root.name, _ENDINGS[outliner.spatial_dims][1])
    drawing = _Drawing(outliner, model, key, catalog, out / FOLDER, _Record(out / RECORD), anyway)
    with progress.task("Outlining", len(fitting), "scans") as bar:
        for row, name in zip(fitting, names, strict=True):
            drawn[row] = drawing.outline(row, name)
            bar.advance()
    return drawn


def _unfit(outliner: Outliner, scan: dict[Any, Any]) -> str:
    """Why the model cannot take a scan, or nothing; grey images are shown to a model of colour as colour."""
    dims, channels = outliner.spatial_dims, int(scan["channels"])
    if len(scan["shape"]) != dims:
        return f"it is {KINDS[len(scan['shape'])][0]}, the model outlines {KINDS[dims][1]}"
    if channels == outliner.channels or (dims == 2 and scan["grey"]):
        return ""
    return f"it has {channels} {'channel' if channels == 1 else 'channels'}, the model takes {outliner.channels}"


class _Record:
    """Which outlines were drawn by which model on which scan, and how far that lay from its training: a line for each,
    the last one holds."""

    def __init__(self, file: Path) -> None:
        self._file, self._keys = file, dict[str, str]()
        self._far = dict[str, float]()
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                name, key, *far = json.loads(line)
                self._keys[name], self._far[name] = key, float(far[0]) if far else math.nan
            except (ValueError, TypeError):  # cut short when the machine went down
                continue

    def key(self, name: str) -> str:
        """What an outline was drawn from, or ""."""
        return self._keys.get(name, "")

    def far(self, name: str) -> float:
        """How far the scan of an outline lay, NaN where that is not known."""
        return self._far.get(name, math.nan)

    def add(self, name: str, key: str, far: float = math.nan) -> None:
        """Remember it, on a line of its own whatever stands before."""
        if self.key(name) != key:
            self._keys[name], self._far[name] = key, far
            line = [name, key] if math.isnan(far) else [name, key, far]
            with said_plainly(self._file), self._file.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(line)}")


@dataclass(frozen=True)
class _Drawing:
    """Scans become files below `folder`, one after the other."""

    outliner: Outliner
    model: Segmenter
    key: str
    catalog: Catalog
    folder: Path
    record: _Record
    anyway: bool = False

    def outline(self, row: int, name: str) -> Outline:
        """The outline of a scan, drawn unless it is there."""
        file, key = f"{FOLDER}/{name}", self._key(row)
        voxels = self._there(row, name) if self.record.key(name) == key else None
        if voxels is not None:
            return Outline(file, voxels, kept=True, far=self.record.far(name))
        self.record.add(name, "")
        with said_plainly(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)
        try:
            labels, far = self._drawn(row)
            if labels is None:
                return Outline(reason=UNLIKE, far=far)
            self._write(row, name, labels)
        except DataError as error:
            return Outline(reason=error.what)
        except (MemoryError, RuntimeError) as error:
            if not _of_memory(error):
                raise
            return Outline(reason="it needs more memory than there is")
        self.record.add(name, key, far)
        return Outline(file, _counted(labels, range(len(self.outliner.values))), far=far)

    def _key(self, row: int) -> str:
        table: Any = self.catalog.table
        scan = table.iloc[row]
        place = [None if scan[name] is None else tuple(map(float, scan[name])) for name in ("spacing", "affine")]
        return content_key(self.key, self.catalog.source(row), scan["hash"], scan["modality"], *place)

    def _there(self, row: int, name: str) -> tuple[int, ...] | None:
        """What an outline holds that was drawn before; None where it is gone or damaged."""
        reader, _ = _ENDINGS[self.outliner.spatial_dims]
        try:
            pixels = read(Source(reader, (name,)), self.folder).pixels
        except DataError:
            return None
        found = colour_numbers(pixels) if len(pixels) == 3 else pixels[0]
        same = found.shape == self._shape(row)
        return _counted(found, self.outliner.values) if same else None

    def _drawn(self, row: int) -> tuple[Labels | None, float]:
        """(*S) class indices in the grid of the scan, seen as the scans of the training were, and how far it lies from
        those; none where that is too far."""
        outliner, dims = self.outliner, self.outliner.spatial_dims
        alone = replace(self.catalog, table=self.catalog.table.iloc[[row]].reset_index(drop=True))
        low, high = outliner.ct_window
        flips = tuple(range(dims)) if outliner.mirrored else ()
        with tempfile.TemporaryDirectory(prefix="medprior-") as place:
            store = VolumeStore.build(
                alone, place, spacing=outliner.spacing, spatial_dims=dims, ct_window=(low, high), workers=1
            )
            scans = store.resident(next(self.model.parameters()).device, "disk")
            far = self._far(scans)
            if far > 1 and not self.anyway:
                return None, far
            logits = predict_logits(self.model, scans, 0, outliner.shape, overlap=outliner.overlap, flips=flips)
        return labels_of(logits, self._shape(row)), far

    def _far(self, scans: ResidentVolumes) -> float:
        """How far the one scan lies from those of the training, as a share of what is familiar; NaN where unknown."""
        familiarity = self.outliner.familiarity
        if familiarity is None:
            return math.nan
        features = scan_features(self.model, scans, 0, self.outliner.shape)
        return float(familiarity.distances(features[None])[0] / familiarity.limit)

    def _write(self, row: int, name: str, labels: Labels) -> None:
        if self.outliner.spatial_dims == 3:
            write_labels(self.folder / name, labels, self.catalog, row, self.outliner.values)
        else:
            write_label_image(self.folder / name, labels, self.outliner.values)

    def _shape(self, row: int) -> tuple[int, ...]:
        shape: Any = self.catalog.table["shape"].iat[row]
        return tuple(map(int, shape))


def _of_memory(error: Exception) -> bool:
    """Whether memory ran out: of NumPy, of a GPU, or of the CPU, for which PyTorch has no error of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _counted(labels: NDArray[Any], values: Sequence[int]) -> tuple[int, ...]:
    """Voxels of each value but the first."""
    return tuple(int(np.count_nonzero(labels == value)) for value in values[1:])


def _said(catalog: Catalog, drawn: list[Outline], out: Path, outliner: Outliner) -> Predicted:
    done, kept = sum(bool(outline.file) for outline in drawn), sum(outline.kept for outline in drawn)
    again = f"   ({kept:,} were there, by the same model of the same scans)" if kept else ""
    lines = [f"Outlined  {done:,} of {len(catalog):,} scans: {out / FOLDER}{again}"]
    refused = sum(outline.reason == UNLIKE for outline in drawn)
    if refused:
        lines.append(
            f"Refused   {refused:,} scans unlike those this model was trained on   (--anyway outlines them too)"
        )
    if outliner.familiarity is None:
        lines.append(
            "Beware    whether scans are like those of the training is not told: the model was made from too few"
        )
    lines.append(f"Table     {out / TABLE}   (what each outline holds, and why a scan has none)")
    return Predicted(done, (*lines, *unreadable_said(catalog.problems)))
