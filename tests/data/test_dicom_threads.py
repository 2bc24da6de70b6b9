"""Threads that begin with DICOM files of many kinds at once, in a process that has read none: each file is read."""

import subprocess
import sys
from pathlib import Path

from pydicom.data import get_testdata_file

KINDS = (
    "JPEG2000.dcm",
    "liver_1frame.dcm",
    "MR_small_RLE.dcm",
    "reportsi.dcm",
    "liver_expb_1frame.dcm",
    "CT_small.dcm",
)
READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from medprior.data.readers import dicom
sys.setswitchinterval(1e-5)  # threads take turns as often as they can
paths = [Path(name) for name in sys.argv[1:]]
with ThreadPoolExecutor(len(paths)) as pool:
    found = list(pool.map(lambda path: dicom.examine(path.name, path.parent), paths))
print(*(len(one.facts) for one in found))
"""


def test_files_that_are_read_first_by_several_threads_are_not_called_damaged() -> None:
    """pydicom's modules import each other in circles, see `medprior.data.readers.dicom.library`."""
    paths = [str(Path(str(get_testdata_file(name)))) for name in KINDS]
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    alone = subprocess.run(
        [sys.executable, "-c", READ.replace("len(paths)", "1"), *paths], capture_output=True, text=True, check=True
    )
    assert done.stdout == alone.stdout
