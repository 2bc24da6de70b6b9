"""A catalog as one Parquet file. It holds paths and report texts, so it is private."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from medprior.data.annotations.targets import LabelSpec
from medprior.data.catalog import Catalog, problems_table
from medprior.data.scan import ORIGIN, Note
from medprior.errors import DataError
from medprior.files import make_folder, replace_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

VERSION = 3
READ = (2, VERSION)
"""Versions that are read: 2 knows nothing of what headers say of sex, age, site and scanner."""
_KEY = b"medprior.catalog"


def save_catalog(catalog: Catalog, path: Path) -> None:
    """Write a catalog, whole or not at all; the salt of its patient keys is not in it.

    Raises:
        OutputError: the place cannot be written to, or is full.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {
        "version": VERSION,
        "root": str(catalog.root),
        "problems": catalog.problems.to_dict("list"),
        "labels": dataclasses.asdict(catalog.labels) if catalog.labels else None,
        "patients_known": catalog.patients_known,
        "warnings": catalog.warnings,
    }
    frame = catalog.table.assign(
        quantiles=[one.astype("<f8").tobytes() for one in catalog.table["quantiles"]],
        thumb=[one.astype("<f4").tobytes() for one in catalog.table["thumb"]],
    )
    table = pa.Table.from_pandas(frame, preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(about)}), buffer)
    make_folder(path.parent)
    with replace_file(path) as aside:
        aside.write_bytes(buffer.getbuffer())


def load_catalog(path: Path) -> Catalog:
    """Read what `save_catalog` wrote; patients named later by a table need the keys it was made with.

    Raises:
        DataError: absent, damaged, or of another version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        about = json.loads(table.schema.metadata[_KEY])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError("this is no readable catalog", where=str(path), do="Index the scans again") from error
    if about["version"] not in READ:
        reason = f"this catalog has version {about['version']}, this medprior reads {' and '.join(map(str, READ))}"
        raise DataError(reason, where=str(path), do="Index the scans again")
    spec = about["labels"]
    labels = spec and LabelSpec(spec["kind"], tuple(spec["names"]), tuple(spec["columns"]))
    columns = about["problems"]
    notes = [Note(*cells) for cells in zip(columns["path"], columns["kind"], columns["reason"], strict=True)]
    return Catalog(
        Path(about["root"]), _frame(table), problems_table(notes), labels, about["patients_known"], about["warnings"]
    )


def _frame(table: pa.Table) -> pd.DataFrame:
    from medprior.data.indexing.assembling import objects, to_pandas

    frame = to_pandas(table)
    nothing = {name: objects([None] * len(frame)) for name in ORIGIN if name not in frame}
    return frame.assign(**nothing)
