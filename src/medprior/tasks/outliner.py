"""What the user takes home from a study of outlines: encoder, decoder and pre-processing in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from torch import Tensor

from medprior.backbones.weights import DESCRIPTION as ENCODER
from medprior.backbones.weights import WEIGHTS as ENCODER_WEIGHTS
from medprior.backbones.weights import load_encoder, save_encoder
from medprior.data.volumestore.plan import content_key
from medprior.data.volumestore.resample import Spacing
from medprior.errors import RunError
from medprior.files import digest, make_folder, replace_file, write_json
from medprior.tasks.predictor import Familiarity
from medprior.tasks.segmentation import Segmentation, Segmenter, make_decoder

SCHEMA = 1
FACTS, WEIGHTS, FAMILIAR = "outliner.json", "decoder.safetensors", "familiarity.npz"


@dataclass(frozen=True)
class Outliner:
    """How scans reach a segmenter, and what its classes are.

    Attributes:
        names: of the classes beside the background.
        values: what stands in files of label maps for every class index, the background's first.
        shape: voxels of a window along each axis.
        spacing: mm per voxel that scans are brought to; None keeps their own.
        channels, spatial_dims, modality: of the scans it was made from.
        ct_window: HU that are black and white.
        supervise: coarser outputs its decoder has.
        overlap: share of a window that the next one covers.
        mirrored: whether answers are averaged over mirrored windows.
        origin: how it was chosen.
        sees_image: whether its decoder sees the image beside the encoder's maps; `save` asks the decoder itself.
        familiarity: how far a scan may lie from those of the training; None where these were too few to say.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    shape: tuple[int, ...]
    spacing: Spacing
    channels: int
    spatial_dims: int
    modality: str | None
    ct_window: Sequence[float]
    supervise: int
    overlap: float
    mirrored: bool
    origin: Mapping[str, object]
    sees_image: bool = False
    familiarity: Familiarity | None = field(default=None, compare=False)

    def save(self, folder: Path, model: Segmenter) -> None:
        """Write `outliner.json`, the decoder and the measure of familiarity beside the encoder."""
        from safetensors.torch import save_file

        make_folder(folder)
        save_encoder(model.encoder, folder)
        with replace_file(folder / WEIGHTS) as aside:
            save_file({k: v.contiguous().cpu() for k, v in model.decoder.state_dict().items()}, aside)
        _keep(self.familiarity, folder / FAMILIAR)
        facts = asdict(replace(self, sees_image=model.decoder.sees_image, familiarity=None))
        del facts["familiarity"]
        write_json(folder / FACTS, {"schema": SCHEMA, **facts})

    @classmethod
    def load(cls, folder: Path) -> tuple[Outliner, Segmenter]:
        """The outliner in `folder`, and its segmenter on the CPU.

        Raises:
            RunError: there is none, it is damaged, or of another version.
        """
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            schema = facts.pop("schema", None)
            sequences = {name: tuple(facts[name]) for name in ("names", "values", "shape", "ct_window")}
            spacing = tuple(facts["spacing"]) if isinstance(facts["spacing"], list) else facts["spacing"]
            found = cls(**facts | sequences | {"spacing": spacing}, familiarity=_kept(folder / FAMILIAR))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile) as error:
            what = f"no outliner can be read here ({type(error).__name__})"
            raise RunError(what, where=str(folder), do="Give the best/ folder of a finished run") from error
        if schema != SCHEMA:
            raise RunError(f"this outliner is of another version ({schema})", where=str(folder))
        return found, found._segmenter(folder)

    def _segmenter(self, folder: Path) -> Segmenter:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        encoder = load_encoder(folder)
        decoder = make_decoder(encoder, Segmentation(self.names), self.supervise, self.sees_image)
        try:
            decoder.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as error:
            what = f"the decoder cannot be read ({type(error).__name__})"
            raise RunError(what, where=str(folder / WEIGHTS), do="Repeat the run") from error
        return _Taking(encoder, decoder).eval().requires_grad_(False)


def _keep(familiarity: Familiarity | None, file: Path) -> None:
    """Write it, or remove what another model left."""
    if familiarity is None:
        file.unlink(missing_ok=True)
        return
    with replace_file(file) as aside, aside.open("wb") as stream:
        np.savez(stream, mean=familiarity.mean, precision=familiarity.precision, limit=familiarity.limit)


def _kept(file: Path) -> Familiarity | None:
    """What was written; models of older versions have none."""
    if not file.exists():
        return None
    with np.load(file, allow_pickle=False) as found:
        return Familiarity(found["mean"], found["precision"], float(found["limit"]))


class _Taking(Segmenter):
    """A segmenter that takes grey images where its encoder takes colour: repeated, as the store of its training did."""

    def outputs(self, pixels: Tensor) -> list[Tensor]:
        """The logits of every supervised resolution of pixels (B, C, *S), or (B, 1, *S)."""
        return super().outputs(pixels.expand(-1, self.encoder.spec["in_channels"], *pixels.shape[2:]))


def fingerprint(folder: Path) -> str:
    """A hash of all that an outliner is: two with the same draw the same outlines.

    Raises:
        RunError: a file of it is gone.
    """
    try:
        return content_key(*(digest(folder / name) for name in (FACTS, WEIGHTS, ENCODER, ENCODER_WEIGHTS)))
    except OSError as error:
        what = f"a file of this outliner cannot be read ({type(error).__name__})"
        raise RunError(what, where=str(folder), do="Give the best/ folder of a finished run") from error


def is_outliner(folder: Path) -> bool:
    """Whether `folder` holds an outliner, whole or not."""
    return (folder / FACTS).exists()
