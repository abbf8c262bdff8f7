"""Reader of images with a class for every pixel: FOLDER/images/NAME.jpg and FOLDER/masks/NAME.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowwatt.data.folder import images_in, split_folder
from lowwatt.data.portion import Portioned
from lowwatt.errors import ToolError
from lowwatt.recipe import DataSettings
from lowwatt.types import UNSCORED

_HINT = "a split has images/ and masks/ with files of the same name; a mask is a gray PNG of class numbers"


@dataclass(frozen=True, slots=True)
class MaskedImage:
    """One image, and the file with the class of each of its pixels."""

    path: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class MaskData(Portioned):
    """A labelled split; class k is called `labels[k]`. `ignore` is the value of the masks that means no class."""

    source: Path
    images: tuple[MaskedImage, ...]
    labels: tuple[str, ...]
    ignore: int = UNSCORED

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Class of each pixel, uint8 (H, W), UNSCORED for none; ToolError for a damaged file and an unknown class."""
        path = self.images[index].mask
        values = read_mask(path)
        values[values == self.ignore] = UNSCORED
        beyond = values[(values >= len(self.labels)) & (values != UNSCORED)]
        if beyond.size:
            why = f"class {beyond[0]}, and there are {len(self.labels)}"
            hint = "name all classes in data.classes, or set segmentation.ignore"
            raise ToolError("the mask has an unknown class", where=str(path), why=why, hint=hint)
        return values


def open_masks(settings: DataSettings, ignore: int, splits: Sequence[str] = ("train", "val")) -> list[MaskData]:
    """The splits of a recipe, in order: ROOT/train and ROOT/val. Without `classes` the masks of train are counted."""
    names = tuple(settings.classes or ())
    if not names:
        names = tuple(f"class {k}" for k in range(_count(read_masks(split_folder(settings, "train"), (), ignore))))
    return [read_masks(split_folder(settings, split), names, ignore) for split in splits]


def read_masks(folder: str | Path, labels: Sequence[str], ignore: int = UNSCORED) -> MaskData:
    """One folder with images/ and masks/; ToolError where one of them is missing, or a mask of an image."""
    root = Path(folder).expanduser()
    images = root / "images"
    files = images_in(images) if images.is_dir() else []
    if not files:
        raise ToolError("there is no image with a mask", where=str(images), hint=_HINT)
    found = tuple(MaskedImage(path, root / "masks" / f"{path.stem}.png") for path in files)
    missing = next((image.mask for image in found if not image.mask.is_file()), None)
    if missing is not None:
        raise ToolError("an image has no mask", where=str(missing), hint=_HINT)
    return MaskData(root, found, tuple(labels), ignore)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Numbers of a mask as the file has them, uint8 (H, W)."""
    import cv2

    try:
        content = np.fromfile(path, np.uint8)
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    except (OSError, cv2.error) as error:
        raise ToolError("cannot read the mask", where=str(path), why=str(error).strip()) from None
    if values is None or values.ndim != 2 or values.dtype != np.uint8:
        why = "no known image format" if values is None else f"it is {values.dtype} of shape {values.shape}"
        raise ToolError("cannot read the mask", where=str(path), why=why, hint=_HINT)
    mask: NDArray[np.uint8] = values
    return mask


def _count(data: MaskData) -> int:
    """Classes in all masks of a split: the greatest number that is not `ignore`, and one."""
    greatest = -1
    for image in data.images:
        values = read_mask(image.mask)
        known = values[(values != data.ignore) & (values != UNSCORED)]
        if known.size:
            greatest = max(greatest, int(known.max()))
    return greatest + 1
