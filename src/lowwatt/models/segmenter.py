"""A segmenter for a DPU, whole in this file: YOLOX's backbone, and a pyramid that comes back to a quarter of the input.

The decoder is that of panoptic FPN (Kirillov et al., 2019) made small: from coarse to fine, each level is brought to
one width by a 1x1 convolution and added to the one above it, enlarged by copying. All of it runs on the accelerator;
the last enlargement and the choice of the class are the host's (`lowwatt.runtime.segmenter`).
"""

from __future__ import annotations

from torch import Tensor, nn

from lowwatt.models.yolox import ConvBlock, CSPDarknet
from lowwatt.recipe import ModelSettings

OUTPUT = "classes"


class CSPNet(nn.Module):
    """Image in, one map of class numbers out, at a quarter of the size.

    >>> import torch
    >>> net = CSPNet(ModelSettings(width=0.125, size=64), 5)
    >>> tuple(net.eval()(torch.zeros(2, 1, 64, 64)).shape)
    (2, 5, 16, 16)
    """

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__()
        base, act = int(64 * settings.width), settings.activation
        width = 4 * base
        self.backbone = CSPDarknet(settings)
        self.laterals = nn.ModuleList(ConvBlock(k * base, width, 1, activation=act) for k in (2, 4, 8, 16))
        self.smooth = nn.ModuleList(ConvBlock(width, width, 3, activation=act) for _ in range(3))
        self.upsample = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.classes = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float, values 0…255 → (N, classes, H/4, W/4) logits."""
        body = self.backbone
        finest = body.dark2(body.stem(x))
        fine = body.dark3(finest)
        coarse = body.dark4(fine)
        top = self.laterals[3](body.dark5(coarse))
        for index, feature in zip((2, 1, 0), (coarse, fine, finest), strict=True):
            top = self.smooth[index](self.upsample(top) + self.laterals[index](feature))
        out: Tensor = self.classes(top)
        return out
