"""Images of a batch brought to a GPU, and drawn there where a processor would be too slow for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowwatt.data.layout import Layouts
from lowwatt.training.guard import out_of_memory


class Upload:
    """Turns the images of a batch into a tensor on a GPU, uint8 (B, H, W, C), in the thread that made the batch.

    `alone` is held meanwhile: it asks the GPU for memory, which must not happen while a CUDA graph is captured.
    """

    def __init__(self, device: torch.device, alone: threading.Lock) -> None:
        self.device, self.alone = device, alone
        self.stream, self.reader = torch.cuda.Stream(device, priority=-1), torch.cuda.current_stream(device)

    def __call__(self, batch: Any) -> Any:
        """The same batch with its images there, whole. ToolError where the GPU's memory does not take them."""
        try:
            with self.alone, torch.cuda.stream(self.stream):
                images = on_device(batch.images, self.device)
                images.record_stream(self.reader)
                done = self.stream.record_event()
        except torch.OutOfMemoryError:
            why = "the images alone do not fit on the GPU any more"
            raise out_of_memory(len(batch.images), hint="lower train.batch", why=why) from None
        done.synchronize()
        return replace(batch, images=images)


def on_device(images: NDArray[np.uint8] | Layouts | Tensor, device: torch.device) -> Tensor:
    """Images of a batch on a device, drawn there where they are not drawn yet; as they are where they are there."""
    if isinstance(images, Tensor):
        return images
    return drawn(images, device) if isinstance(images, Layouts) else sent(images, device)


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device; the processor does not wait for a GPU to be done with what it was given before."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def drawn(layouts: Layouts, device: torch.device) -> Tensor:
    """The inputs, uint8 (B, side, side, C): each pixel from the last image that covers it, between its four nearest.

    What `lowwatt.data.layout.drawn` gives, but for the pixel at an image's edge, which that one blends with what lies
    below, and for rounding.
    """
    start, size, back = (sent(array, device) for array in (layouts.start, layouts.size, layouts.back))
    x, y, chosen = _where(size, back, layouts.side)
    rows = torch.arange(len(start), device=device)[:, None, None]
    height, width = size[rows, chosen].unbind(-1)
    first = start[rows, chosen]
    left, top = x.floor().clamp_(min=0), y.floor().clamp_(min=0)
    right, bottom = torch.minimum(left + 1, width - 1), torch.minimum(top + 1, height - 1)
    across, down = (x - left).clamp_(0, 1)[..., None], (y - top).clamp_(0, 1)[..., None]
    pixels = sent(layouts.pixels, device).view(-1, layouts.channels)

    def at(column: Tensor, row: Tensor) -> Tensor:
        return pixels[(first // layouts.channels + row.long() * width + column.long()).clamp_(0, len(pixels) - 1)]

    above = torch.lerp(at(left, top).float(), at(right, top).float(), across)
    below = torch.lerp(at(left, bottom).float(), at(right, bottom).float(), across)
    values = torch.lerp(above, below, down).round_().to(torch.uint8)
    return values.masked_fill_((chosen < 0)[..., None], layouts.pad_value)


def _where(size: Tensor, back: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of the inputs (B, side, side): column and row in the last image that covers it, and which it is,
    -1 where none does.
    """
    steps = torch.arange(side, device=size.device, dtype=torch.float32)
    shape = (len(size), side, side)
    x, y = torch.zeros(shape, device=size.device), torch.zeros(shape, device=size.device)
    chosen = torch.full(shape, -1, device=size.device)
    for image in range(size.shape[1]):
        of = back[:, image, :, :, None, None]  # (B, 2, 3, 1, 1)
        own_x, own_y = (of[:, axis, 0] * steps + of[:, axis, 1] * steps[:, None] + of[:, axis, 2] for axis in (0, 1))
        height, width = size[:, image, :, None, None].unbind(1)
        covers = (own_x > -0.5) & (own_x < width - 0.5) & (own_y > -0.5) & (own_y < height - 0.5)
        x, y = torch.where(covers, own_x, x), torch.where(covers, own_y, y)
        chosen.masked_fill_(covers, image)
    return x, y, chosen
