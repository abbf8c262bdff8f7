"""Image files as they come in the field: damaged ones, and odd ones that are sound."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from small_detector import HEIGHT, WIDTH, picture

BAD = ("missing", "folder", "empty", "text", "truncated jpeg", "truncated png")
SOUND = ("1x1", "20,000 wide", "cmyk", "16 bit", "animated", "wrong suffix", "transparent", "progressive")


def fault_images(folder: Path) -> dict[str, Path]:
    """A file for each name of `BAD` and `SOUND`, and one called good, which has a bright cell."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cell = picture((1, 2))
    jpeg, png = _encoded(".jpg", noise), _encoded(".png", noise)
    contents = {
        "good": (".png", _encoded(".png", cell)),
        "empty": (".jpg", b""),
        "text": (".jpg", b"<html>404 not found</html>"),
        "truncated jpeg": (".jpg", jpeg[: len(jpeg) // 2]),
        "truncated png": (".png", png[: len(png) // 2]),
        "1x1": (".png", _encoded(".png", noise[:1, :1])),
        "20,000 wide": (".png", _encoded(".png", np.zeros((3, 20_000), np.uint8))),
        "cmyk": (".jpg", cmyk_jpeg()),
        "16 bit": (".png", _encoded(".png", noise.astype(np.uint16) * 257)),
        "animated": (".tiff", _animated(noise)),
        "wrong suffix": (".jpg", png),
        "transparent": (".png", _encoded(".png", np.dstack([noise, noise[:, :, 0]]))),
        "progressive": (".jpg", _encoded(".jpg", noise, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    }
    paths = {name: folder / f"{name}{suffix}" for name, (suffix, _) in contents.items()}
    for name, (_, content) in contents.items():
        paths[name].write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return {**paths, "missing": folder / "missing.jpg", "folder": folder / "folder.jpg"}


def _encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1].tobytes())


def _animated(image: np.ndarray) -> bytes:
    """Three pages."""
    return bytes(cv2.imencodemulti(".tiff", [image, image // 2, image // 4])[1].tobytes())


def cmyk_jpeg() -> bytes:
    """8 x 8 pixels of CMYK, which OpenCV does not write: a gray JPEG's tables, four components of one flat block each.

    A flat block is 00 (no difference to the last one) and 1010 (nothing more) in the standard's own codes.
    """
    gray = _encoded(".jpg", np.zeros((8, 8), np.uint8), cv2.IMWRITE_JPEG_OPTIMIZE, 0)
    tables = b"".join(segment for marker, segment in _segments(gray) if marker in (0xDB, 0xC4))
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
    frame = b"\xff\xc0\x00\x14\x08\x00\x08\x00\x08\x04" + b"".join(bytes([k, 0x11, 0]) for k in (1, 2, 3, 4))
    scan = b"\xff\xda\x00\x0e\x04" + b"".join(bytes([k, 0]) for k in (1, 2, 3, 4)) + b"\x00\x3f\x00"
    return b"\xff\xd8" + adobe + tables + frame + scan + bytes([0x28, 0xA2, 0x8A]) + b"\xff\xd9"


def _segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """(marker, segment) up to the scan."""
    found, at = [], 2
    while jpeg[at + 1] != 0xDA:
        size = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append((jpeg[at + 1], jpeg[at : at + size]))
        at += size
    return found
