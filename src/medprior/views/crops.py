"""Windows of stored scans for the views of a plan, cut before they are rendered.

Where a view lies is drawn on the host, by hashes: so a thread that reads ahead knows what to read, and nothing waits
for the device. What is drawn on the device for the same key is the same, so it does not matter who draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medprior.data.store.transfer import Transfer
from medprior.errors import SettingsError
from medprior.views.draws import Key
from medprior.views.foreground import aim, draw_aims
from medprior.views.geometry import corner_of, draw_affine, lies_on_pixels, reach, widest
from medprior.views.plan import ViewPlan
from medprior.views.recipe import ViewRecipe
from medprior.views.resample import COARSEST
from medprior.views.window import Crops, Window

if TYPE_CHECKING:
    from medprior.data.volumestore.foreground import Foreground
    from medprior.data.volumestore.resident import ResidentVolumes


def window_shape(recipe: ViewRecipe) -> tuple[int, ...]:
    """Stored voxels along each axis of the window that a view with this recipe is made from.

    Raises:
        SettingsError: the recipe has no pitch, without which volumes of any length have no window of one size.
    """
    if recipe.pitch is None:
        what = "views of volumes need a pitch: how many stored voxels lie behind a voxel of the view"
        raise SettingsError(what, where="view.pitch", do="Set it, for instance to (1.0, 1.0).")
    return reach(recipe)


def cut(
    volumes: ResidentVolumes,
    rows: NDArray[np.int64],
    plan: ViewPlan,
    *,
    seed: int,
    step: int,
    foreground: Foreground | None = None,
) -> Crops:
    """The windows of the plan's views of scans `rows` (B,), on their device; any thread may call it.

    Args:
        foreground: where labelled voxels lie: views are then aimed at them, and windows hold the label maps.

    Raises:
        SettingsError: a view that volumes cannot show.
        StoreError: a volume is gone or damaged.
    """
    _check(plan)
    send = Transfer(volumes.device)
    (index,) = send.send(send.staged(rows))
    lengths = volumes.lengths(rows)
    scale, offset = volumes.mapping(rows)
    windows: list[Window] = []
    for position in range(len(plan.specs)):
        source = plan.geometry_source(position)
        if source < position:
            windows.append(windows[source])
            continue
        recipe, shape = plan.specs[position].recipe, window_shape(plan.specs[position].recipe)
        corner, affine = _drawn(recipe, lengths, Key(seed, step, torch.from_numpy(rows), position), shape, foreground)
        begin, long, maps = send.send(*(send.staged(each) for each in (corner, lengths.astype(np.float32), affine)))
        box = corner.astype(np.int64), shape
        labels = None if foreground is None else volumes.masks(rows, *box)
        windows.append(Window(volumes.windows(rows, *box), begin, long, maps, scale, offset, labels))
    return Crops(index, tuple(windows))


def _check(plan: ViewPlan) -> None:
    """Whether volumes can be seen so.

    Raises:
        SettingsError: no pitch; or turned views of more than 3 voxels a pixel, which would alias without levels.
    """
    for position, spec in enumerate(plan.specs):
        geometry = plan.specs[plan.geometry_source(position)].recipe
        window_shape(geometry)
        pitch = widest(geometry, spec.recipe.shape, 0)
        if geometry.rotation and pitch > 2 * COARSEST:
            what = f"view {spec.name} is turned and up to {pitch:.1f} stored voxels wide a pixel; up to 3 can be shown"
            raise SettingsError(what, where="view.pitch", do="Lower it, store coarser volumes, or set rotation to 0.")


def _drawn(
    recipe: ViewRecipe,
    lengths: NDArray[np.int64],
    key: Key,
    window: tuple[int, ...],
    foreground: Foreground | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Corners (B, d) and affines (B, d, d+1)."""
    long = torch.from_numpy(lengths).float()
    affine = draw_affine(recipe, torch.tensor([-1.0, 1.0]).expand(*long.shape, 2), long, key)
    if foreground is not None:
        affine = aim(affine, long, draw_aims(foreground, lengths, key), on_pixels=lies_on_pixels(recipe))
    return corner_of(affine, long, window).numpy(), affine.numpy()
