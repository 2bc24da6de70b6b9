"""DICOM: files of any name, assembled into scans.

`examine` looks at one file, `assemble` puts many together; both are what an index uses. `group`, `describe` and `read`
are what every reader offers.
"""

from medprior.data.readers import FORMATS
from medprior.data.readers.dicom.content import is_dicom
from medprior.data.readers.dicom.examine import Examined, examine
from medprior.data.readers.dicom.reading import describe, group, read
from medprior.data.readers.dicom.segmentation import Labels, read_segmentation
from medprior.data.readers.dicom.series import Assembled, Assembly, Segmentation, assemble

suffixes = FORMATS["dicom"]

__all__ = [
    "Assembled",
    "Assembly",
    "Examined",
    "Labels",
    "Segmentation",
    "assemble",
    "describe",
    "examine",
    "group",
    "is_dicom",
    "read",
    "read_segmentation",
    "suffixes",
]
