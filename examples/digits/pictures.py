"""Digits as pictures: a PNG contact sheet, and characters for the terminal."""

from pathlib import Path

import numpy as np
from PIL import Image

_RAMP = " .:-=+*#%@"
_SCALE = 6
"""Screen pixels per image pixel in the contact sheet."""


def contact_sheet(originals: np.ndarray, reconstructions: np.ndarray, path: Path) -> Path:
    """Writes originals in the upper row, reconstructions in the lower.

    Args:
        originals: float32 [n, 1, h, w] in [0, 1].
        reconstructions: same shape.
        path: the PNG to write.
    """
    frame = ((0, 0), (0, 0), (1, 1), (1, 1))
    rows = [np.pad(images, frame, constant_values=0.3)[:, 0] for images in (originals, reconstructions)]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    grey = (sheet.clip(0, 1) * 255).astype(np.uint8).repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    Image.fromarray(grey).save(path)
    return path


def side_by_side(originals: np.ndarray, reconstructions: np.ndarray) -> str:
    """The same as text, two characters a pixel: originals above, reconstructions below."""
    return "\n\n".join(
        f"  {title}\n{_characters(images)}" for title, images in (("sent", originals), ("came back", reconstructions))
    )


def _characters(images: np.ndarray) -> str:
    levels = (images[:, 0].clip(0, 1) * (len(_RAMP) - 1)).round().astype(int)
    height = levels.shape[1]
    return "\n".join(
        "  " + "  ".join("".join(_RAMP[v] * 2 for v in image[line]) for image in levels) for line in range(height)
    )
