"""From cells of text to numbers: classes by name, or findings that are present, absent or unknown; and what a
`dataset.json` calls the values of masks."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medprior.data.annotations.label_table import FINDING, UNCERTAIN, UNKNOWN, LabelTable
from medprior.data.annotations.sidecars import decoded, read_limited
from medprior.data.readers.guard import shown
from medprior.errors import DataError, LabelError

if TYPE_CHECKING:
    import pandas as pd

DATASET = "dataset.json"
"""The file of the Medical Segmentation Decathlon and of nnU-Net that names the classes of masks."""
_IGNORE = "ignore"
_MOST_BYTES = 16 << 20
_MOST_MEASURED = 10  # a column with more distinct fractions than this is a measurement, not a class


@dataclass(frozen=True)
class LabelSpec:
    """What the labels mean.

    Attributes:
        kind: binary and multiclass have one target "y" (class index); multilabel has one target per label (0 or 1);
            segmentation has one per class beside the background: whether the mask holds it.
        names: the classes in the order of their index, or the labels.
        columns: the target columns of `Catalog.table`.
    """

    kind: Literal["binary", "multiclass", "multilabel", "segmentation"]
    names: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def of_classes(cls, names: Sequence[str]) -> LabelSpec:
        """One target with these classes."""
        return cls("binary" if len(names) == 2 else "multiclass", tuple(names), ("y",))

    @classmethod
    def of_findings(cls, names: Sequence[str]) -> LabelSpec:
        """Independent findings, each present or not."""
        return cls("multilabel", tuple(names), tuple(f"y:{name}" for name in names))

    @classmethod
    def of_outlines(cls, names: Sequence[str]) -> LabelSpec:
        """Classes that masks outline, without the background; the first is class 1 of a label map."""
        return cls("segmentation", tuple(names), tuple(f"y:{name}" for name in names))

    @property
    def several(self) -> bool:
        """Whether an image has one target for each name, instead of one class."""
        return self.kind in ("multilabel", "segmentation")

    def targets(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """(N,) class index, or (N, K) zeros and ones for K names; NaN where unknown."""
        values = table[list(self.columns)].to_numpy(np.float64)
        return values if self.several else values[:, 0]


def class_targets(table: LabelTable, column: str) -> tuple[NDArray[np.float64], LabelSpec, list[str]]:
    """(N,) class index of each row, NaN where unknown; classes sorted by number or else by name; and warnings.

    Among numbers, infinity is no class: it counts as unknown, with a warning.

    Raises:
        LabelError: no label, one class only, or values that are ids, free text or measurements.
    """
    cells = table.columns[column]
    known = [i for i, cell in enumerate(cells) if cell.lower() not in UNKNOWN]
    numbers = _numbers([cells[i] for i in known])
    warnings = []
    infinite = sum(map(math.isinf, numbers))
    if infinite:
        known = [i for i, number in zip(known, numbers, strict=True) if math.isfinite(number)]
        numbers = [number for number in numbers if math.isfinite(number)]
        warnings.append(f'{infinite} labels in column "{column}" are infinite; they count as unknown.')
    values = [_written(number) for number in numbers] if numbers else [cells[i] for i in known]
    names = sorted(set(values), key=float if numbers else None)
    _check_classes(table, column, names, len(values), numbers)
    folded = [name.casefold() for name in names]
    alike = [name for name in names if folded.count(name.casefold()) > 1]
    if alike:
        listed = ", ".join(f'"{name}"' for name in alike)
        warnings.append(f'Classes in column "{column}" that differ only in capital letters: {listed}.')
    index = {name: i for i, name in enumerate(names)}
    targets = np.full(len(cells), np.nan)
    targets[known] = [index[value] for value in values]
    return targets, LabelSpec.of_classes(names), warnings


def _numbers(cells: Sequence[str]) -> list[float]:
    """The cells as numbers, or nothing when one of them is none."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return []
    return [] if any(map(math.isnan, numbers)) else numbers


def _written(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _check_classes(table: LabelTable, column: str, names: list[str], count: int, numbers: list[float]) -> None:
    other = "Choose another column with --label"
    if not names:
        raise table.error(f'no image that was found has a label in column "{column}"', do=other)
    if len(names) == 1:
        raise table.error(f'all {count} labels in column "{column}" are "{names[0]}"; two classes are needed', do=other)
    if len(names) > 2 and 2 * len(names) > count:
        reason = f'column "{column}" has {len(names)} different values in {count} rows: an id or free text, no classes'
        raise table.error(reason, do=other)
    if len(names) > _MOST_MEASURED and any(not number.is_integer() for number in numbers):
        reason = f'column "{column}" holds measurements ({names[0]} to {names[-1]}), no classes'
        raise table.error(reason, do="Cut them into classes, or choose another column with --label")


def finding_targets(table: LabelTable, columns: Sequence[str]) -> tuple[NDArray[np.float64], LabelSpec, list[str]]:
    """(N, K) one column per finding: 1 present, 0 absent, NaN unknown; and warnings.

    Findings that are the same in all rows cannot be learnt or scored; they are left out with a warning.

    Raises:
        LabelError: a cell that is neither 0, 1 nor empty, or no finding that varies.
    """
    values = np.stack([_finding(table, column) for column in columns], axis=1)
    varies = [len(np.unique(column[~np.isnan(column)])) > 1 for column in values.T]
    kept = [name for name, useful in zip(columns, varies, strict=True) if useful]
    constant = [name for name, useful in zip(columns, varies, strict=True) if not useful]
    if not kept:
        raise table.error(f"each label has one value only: {', '.join(constant)}", do="Choose others with --label")
    warnings = [f"Labels left out, for all their values are the same: {', '.join(constant)}."] if constant else []
    uncertain = sum(cell in UNCERTAIN for column in kept for cell in table.columns[column])
    if uncertain:
        warnings.append(f"{uncertain} labels are -1 (uncertain); they count as unknown.")
    return values[:, varies], LabelSpec.of_findings(kept), warnings


def _finding(table: LabelTable, column: str) -> NDArray[np.float64]:
    cells = [cell.lower() for cell in table.columns[column]]
    for number, cell in zip(table.numbers, cells, strict=True):
        if cell not in FINDING and cell not in UNKNOWN and cell not in UNCERTAIN:
            reason = f'"{cell}" in column "{column}", row {number}, is neither 0, 1 nor empty'
            raise table.error(reason, do="Several label columns are findings, each 0 or 1; give one column for classes")
    return np.array([FINDING.get(cell, math.nan) for cell in cells])


def add_carried_labels(frame: pd.DataFrame, labels: list[list[float] | None], warnings: list[str]) -> LabelSpec | None:
    """Put the labels that containers carry into `frame`: one number is a class, several are findings."""
    frame["labelled"] = False
    widths = {len(label) for label in labels if label is not None}
    if not widths:
        return None
    if len(widths) > 1:
        warnings.append("The files carry labels of different lengths; none of them is used.")
        return None
    carriers = frame.loc[[label is not None for label in labels], "path"].nunique()
    if carriers > 1:
        warnings.append(
            f"{carriers} files carry labels of their own, which need not mean the same; none of them is used: index "
            "one of these files, or give a table with --labels."
        )
        return None
    width = widths.pop()
    values = np.array([label if label is not None else [np.nan] * width for label in labels], dtype=np.float64)
    return _carried_classes(frame, values[:, 0], warnings) if width == 1 else _carried_findings(frame, values, warnings)


def _carried_classes(frame: pd.DataFrame, values: NDArray[np.float64], warnings: list[str]) -> LabelSpec | None:
    known = np.isfinite(values)
    if np.isinf(values).any():
        warnings.append(f"{np.isinf(values).sum()} labels that the files carry are infinite; they count as unknown.")
    classes, index = np.unique(values[known], return_inverse=True)
    if len(classes) < 2:
        warnings.append("All labels that the files carry are the same; they are not used.")
        return None
    targets = np.full(len(frame), np.nan)
    targets[known] = index
    frame["y"], frame["labelled"] = targets, known
    return LabelSpec.of_classes([f"{value:g}" for value in classes])


def _carried_findings(frame: pd.DataFrame, values: NDArray[np.float64], warnings: list[str]) -> LabelSpec | None:
    if not np.isin(values[~np.isnan(values)], (0, 1)).all():
        warnings.append("The files carry several numbers per image that are not all 0 or 1; they are not used.")
        return None
    spec = LabelSpec.of_findings([str(i) for i in range(values.shape[1])])
    for column, target in zip(spec.columns, values.T, strict=True):
        frame[column] = target
    frame["labelled"] = np.asarray(~np.isnan(values).all(axis=1))
    return spec


@dataclass(frozen=True)
class ClassNames:
    """What a `dataset.json` says of the values of masks.

    Attributes:
        names: of values.
        known: all values that are classes, the background too; regions of several values have no name of their own.
        ignored: the value of voxels that were not judged, which lies above all others; None where there is none.
    """

    names: Mapping[int, str]
    known: frozenset[int]
    ignored: int | None = None


def read_class_names(file: Path) -> ClassNames | None:
    """The `labels` of a `dataset.json`, value by name (nnU-Net) or name by value (Medical Segmentation Decathlon); None
    where it has none. What nnU-Net calls "ignore" is no class, and has to be the highest value, as there.

    Raises:
        LabelError: it cannot be read, or a label has no value.
    """
    try:
        said: Any = json.loads(decoded(read_limited(file, str(file), _MOST_BYTES)))
    except (DataError, ValueError) as error:
        what = error.what if isinstance(error, DataError) else "this is no JSON"
        raise LabelError(
            what, where=str(file), do="Mend it, or remove it: classes are then called by values"
        ) from error
    labels = said.get("labels") if isinstance(said, dict) else None
    if not isinstance(labels, dict) or not labels:
        return None
    every = list(_named_values(labels, file))
    pairs = [(value, name) for name, value in every if name.casefold() != _IGNORE]
    whole = {value: name for value, name in pairs if isinstance(value, int)}
    parts = {part for value, _ in pairs if isinstance(value, list) for part in value}
    often = Counter(whole.values())
    names = {value: name if often[name] == 1 else f"{name} ({value})" for value, name in whole.items()}
    known = frozenset({0, *whole, *parts})
    above = (value for name, value in every if name.casefold() == _IGNORE and isinstance(value, int))
    return ClassNames(names, known, next((value for value in above if value > max(known)), None))


def _named_values(labels: dict[str, Any], file: Path) -> Iterator[tuple[str, int | list[int]]]:
    for key, said in labels.items():
        name, value = (str(said), _whole(key)) if _whole(key) is not None else (key, _whole(said))
        if value is None and isinstance(said, list) and said and all(_whole(part) is not None for part in said):
            yield name, [int(part) for part in said]
        elif value is None:
            do = 'Write "labels" as {"background": 0, "tumour": 1}, or as {"0": "background", "1": "tumour"}'
            raise LabelError(shown(f'the label "{key}" has no whole number of its own'), where=str(file), do=do)
        else:
            yield shown(" ".join(name.split())) or str(value), value


def _whole(said: object) -> int | None:
    """A whole number from 0, also where it is written as text."""
    if isinstance(said, bool) or not isinstance(said, int | str) or not str(said).strip().isdecimal():
        return None
    return int(said)
