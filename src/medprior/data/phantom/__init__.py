"""A generated cohort for demos and tests: one 3D anatomy per patient gives CTs, X-rays and all truth."""

from medprior.data.phantom.chest import Anatomy, Lesion, anatomy
from medprior.data.phantom.cohort import make_cohort
from medprior.data.phantom.ct import CT, render_ct
from medprior.data.phantom.organs import ORGANS
from medprior.data.phantom.sentences import report
from medprior.data.phantom.sites import Sites
from medprior.data.phantom.xray import XRay, render_xray

__all__ = [
    "CT",
    "ORGANS",
    "Anatomy",
    "Lesion",
    "Sites",
    "XRay",
    "anatomy",
    "make_cohort",
    "render_ct",
    "render_xray",
    "report",
]
