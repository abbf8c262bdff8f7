"""Re-parameterised blocks: 3x3 convolutions that train with branches beside them and run as one convolution.

RepVGG (Ding et al., 2021) gives every branch a batch norm; the weights that come of folding them are too spread for
int8. QARepVGG (Chu et al., 2022) keeps one in the 3x3 branch only and puts another behind the sum, and loses little.
So does this: `bn(bn3(conv3x3(x)) + conv1x1(x) + x)`. The outer norm is the one of the plain block, so that folding
leaves a plain block with live statistics.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lowwatt.models.yolox import ConvBlock

_IMAGE_CHANNELS = 3


class RepBlock(ConvBlock):
    """A ConvBlock of kernel 3 in its training form; the shortcut is there where input and output have one shape."""

    norm: nn.BatchNorm2d
    point: nn.Conv2d
    shortcut: bool

    @classmethod
    def of(cls, block: ConvBlock) -> RepBlock:
        """The training form of a block, which it takes over."""
        conv = block.conv
        rep = cls(conv.in_channels, conv.out_channels, 3)
        rep.conv, rep.bn, rep.act = conv, block.bn, block.act
        rep.norm = nn.BatchNorm2d(conv.out_channels, eps=block.bn.eps, momentum=block.bn.momentum)
        rep.point = nn.Conv2d(conv.in_channels, conv.out_channels, 1, conv.stride, bias=False)
        rep.shortcut = conv.in_channels == conv.out_channels and conv.stride == (1, 1)
        return rep

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H/stride, W/stride)."""
        y = self.norm(self.conv(x)) + self.point(x)
        return self.act(self.bn(y + x if self.shortcut else y))

    @torch.no_grad()
    def folded(self) -> ConvBlock:
        """The plain block that gives the same in evaluation mode; the 3x3 norm's shift goes into the outer mean."""
        block = ConvBlock(self.conv.in_channels, self.conv.out_channels, 3)
        block.conv, block.bn, block.act = copy.deepcopy(self.conv), copy.deepcopy(self.bn), self.act
        mean, var = self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None and block.bn.running_mean is not None
        scale = self.norm.weight / torch.sqrt(var + self.norm.eps)
        block.conv.weight.mul_(scale[:, None, None, None])
        block.conv.weight[:, :, 1:2, 1:2] += self.point.weight
        if self.shortcut:
            block.conv.weight[:, :, 1, 1].diagonal().add_(1)
        block.bn.running_mean -= self.norm.bias - mean * scale
        block.train(self.training)
        return block


def expand(module: nn.Module) -> None:
    """Give the 3x3 ConvBlocks their training form, in place.

    Not those whose convolution several blocks share, which must stay one weight; nor those that read the image, whose
    raw pixels would drown the normed branch. The new weights come from torch's global generator.
    """
    blocks = list(_blocks(module))
    uses = Counter(id(block.conv) for _, _, block in blocks)
    for parent, name, block in blocks:
        conv = block.conv
        if conv.kernel_size == (3, 3) and conv.in_channels > _IMAGE_CHANNELS and uses[id(conv)] == 1:
            setattr(parent, name, RepBlock.of(block))


def folded(module: nn.Module) -> nn.Module:
    """The module with plain blocks; itself where there is nothing to fold, else a copy."""
    if not any(isinstance(block, RepBlock) for _, _, block in _blocks(module)):
        return module
    plain = copy.deepcopy(module)
    for parent, name, block in list(_blocks(plain)):
        if isinstance(block, RepBlock):
            setattr(parent, name, block.folded())
    return plain


def _blocks(module: nn.Module) -> Iterator[tuple[nn.Module, str, ConvBlock]]:
    """Every ConvBlock inside, with its parent and the name it has there."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, ConvBlock):
                yield parent, name, child
