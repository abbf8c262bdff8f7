"""Mappings that use the array better than one map row a line of the array.

The array works on `pixels` rows at once; a map of 10 rows leaves 6 of 16 lines idle. A 1x1 convolution does not care
which pixels are neighbours, so its map may be cut anew into as many rows as the array has lines: LOAD and SAVE move
stretches of pixels in place of rows.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from lowwatt.compiler.lowering.layer import Layer
from lowwatt.compiler.subject import FeatureMap
from lowwatt.targets import Target


def flatten(layer: Layer, target: Target) -> Layer:
    """The layer on a map cut anew, where that takes fewer cycles; else the layer itself.

    Where the pixels do not divide evenly the last stretches overlap, and what they share is made twice.
    """
    if not _is_pointwise(layer):
        return layer
    size, pixels = layer.grid, target.array.pixels
    count = size.height * size.width
    tiles = range(1, ceil(size.height / pixels) + 1)
    best = min(tiles, key=lambda n: (n * ceil(count / (n * pixels)), -n))
    width = ceil(count / (best * pixels))
    if best * width >= ceil(size.height / pixels) * size.width or width > count:
        return layer
    return replace(layer, flat=True, **{
        name: FeatureMap(best * pixels, width, getattr(layer, name).channels) for name in ("source", "grid", "sink")
    })


def _is_pointwise(layer: Layer) -> bool:
    """True for a 1x1 convolution of stride 1, alone or with an addition or multiplication behind it."""
    conv = layer.conv
    if conv is None or conv.packed or len(conv.phases) > 1 or layer.repeat != (1, 1):
        return False
    phase = conv.phases[0]
    simple = phase.kernel == (1, 1) and phase.origin == (0, 0) and conv.stride == (1, 1)
    return simple and (layer.misc is None or layer.misc.is_elementwise)
