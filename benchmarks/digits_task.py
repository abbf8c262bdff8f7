"""The small classification task of the quantization tables: cluttered digits and two networks.

The 8x8 digits of scikit-learn are enlarged, placed at random on a 32x32 canvas and covered with crops of other
digits and noise, so that a small network stays near 83 % and a loss of a few points by quantization can be seen.
Everything follows from the seed: which digits are training and which test digits, the images, and the training.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 32
TRAIN, TEST, CALIBRATION = 12_000, 2_000, 256
TEST_DIGITS = 500
CROPS, CROP_SIDE, NOISE = 8, 6, 0.20
EPOCHS, BATCH = 12, 64
SEEDS = (0, 1, 2)


class Data(NamedTuple):
    """Images (N, 1, 32, 32) as uint8 and labels (N,) as int64, for training and for the test."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def _enlarge(digits: np.ndarray) -> np.ndarray:
    """8x8 digits of 0..16 as 16x16 images of 0..1."""
    small = torch.from_numpy(digits).float().unsqueeze(1) / 16
    large: np.ndarray = F.interpolate(small, size=16, mode="bilinear", align_corners=False)[:, 0].numpy()
    return large


def _draw(rng: np.random.Generator, shapes: np.ndarray, target: int) -> np.ndarray:
    """One canvas: the target digit, crops of other digits around and over it, noise."""
    canvas = np.zeros((SIDE, SIDE), np.float32)
    y, x = rng.integers(0, SIDE - 16 + 1, 2)
    canvas[y : y + 16, x : x + 16] = shapes[target] * rng.uniform(0.6, 1.0)
    for _ in range(CROPS):
        source = shapes[rng.integers(len(shapes))]
        top, left = rng.integers(0, 16 - CROP_SIDE + 1, 2)
        y, x = rng.integers(0, SIDE - CROP_SIDE + 1, 2)
        patch = canvas[y : y + CROP_SIDE, x : x + CROP_SIDE]
        crop = source[top : top + CROP_SIDE, left : left + CROP_SIDE] * rng.uniform(0.5, 1.0)
        np.maximum(patch, crop, out=patch)
    canvas += rng.normal(0.0, NOISE, canvas.shape).astype(np.float32)
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8)


def _draw_all(rng: np.random.Generator, shapes: np.ndarray, labels: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
    """`count` canvases and their labels, the targets taken at random from the given digits."""
    targets = rng.integers(0, len(shapes), count)
    images = np.stack([_draw(rng, shapes, int(target)) for target in targets])
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels[targets].astype(np.int64))


def make_data(seed: int) -> Data:
    """The 12,000 training and 2,000 test images of a seed; no digit is in both."""
    digits, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits))
    shapes, labels = _enlarge(digits.reshape(-1, 8, 8)[order]), labels[order]
    train = _draw_all(rng, shapes[TEST_DIGITS:], labels[TEST_DIGITS:], TRAIN)
    test = _draw_all(rng, shapes[:TEST_DIGITS], labels[:TEST_DIGITS], TEST)
    return Data(*train, *test)


def as_input(images: Tensor) -> Tensor:
    """uint8 images as the float input of the networks, 0..1."""
    return images.float() / 255


def calibration(data: Data, count: int = CALIBRATION) -> Tensor:
    """The calibration images, as float: the first of the training set."""
    return as_input(data.train_images[:count])


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias that keeps the size (before its stride), and its BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """The basic block of ResNet: two 3x3 convolutions and a shortcut, ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv(inputs, outputs, 3, stride), nn.ReLU())
        self.second = nn.Sequential(*_conv(outputs, outputs, 3))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return self.relu(self.second(self.first(x)) + self.shortcut(x))


class Inverted(nn.Module):
    """The inverted residual of MobileNetV2: 1x1 up, depthwise 3x3, linear 1x1 down; a sum where sizes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = inputs * expand
        up = [*_conv(inputs, middle, 1), nn.ReLU6()] if expand > 1 else []
        depthwise = [*_conv(middle, middle, 3, stride, groups=middle), nn.ReLU6()]
        self.body = nn.Sequential(*up, *depthwise, *_conv(middle, outputs, 1))
        self.sums = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x + self.body(x) if self.sums else self.body(x)


class Classifier(nn.Module):
    """Stem, blocks, global mean and the linear layer."""

    def __init__(self, stem: list[nn.Module], blocks: list[nn.Module], features: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*stem)
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        """The logits (N, 10) of images (N, 1, 32, 32)."""
        return self.head(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


def res() -> Classifier:
    """The ResNet-like network."""
    widths = [(8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2)]
    return Classifier([*_conv(1, 8, 3, 2), nn.ReLU()], [Residual(*width) for width in widths], 32)


def mb() -> Classifier:
    """The MobileNetV2-like network."""
    widths = [(16, 16, 1, 1), (16, 24, 2, 4), (24, 24, 1, 4), (24, 40, 2, 4), (40, 40, 1, 4)]
    last = nn.Sequential(*_conv(40, 128, 1), nn.ReLU6())
    return Classifier([*_conv(1, 16, 3, 2), nn.ReLU6()], [*(Inverted(*width) for width in widths), last], 128)


NETS = {"res": res, "mb": mb}


def train(net: nn.Module, data: Data, seed: int, epochs: int = EPOCHS) -> None:
    """Train in place with SGD and one cycle of the learning rate; leaves the net in eval mode."""
    images, labels = as_input(data.train_images), data.train_labels
    shuffle = torch.Generator().manual_seed(seed)
    steps = epochs * (len(images) // BATCH)
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=shuffle)
        for chosen in order[: len(images) // BATCH * BATCH].split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(net(images[chosen]), labels[chosen], label_smoothing=0.1).backward()
            optimiser.step()
            cycle.step()
    net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, data: Data, batch: int = 250) -> float:
    """Percent of the test images that the net gets right; leaves its mode as it is."""
    parts = zip(data.test_images.split(batch), data.test_labels.split(batch), strict=True)
    right = sum(int((net(as_input(images)).argmax(1) == labels).sum()) for images, labels in parts)
    return 100 * right / len(data.test_labels)


def trained(name: str, seed: int, folder: Path, data: Data | None = None) -> nn.Module:
    """The network `name` of a seed in eval mode: from `<folder>/<name>-<seed>.safetensors`, else trained and kept."""
    torch.manual_seed(seed)
    net, kept = NETS[name](), folder / f"{name}-{seed}.safetensors"
    if kept.exists():
        net.load_state_dict(load_file(kept))
        return net.eval()
    train(net, data or make_data(seed), seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), kept)
    return net


def main() -> None:
    """Train (or read) both networks of every seed and print their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the trained weights")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    for seed in SEEDS:
        data = make_data(seed)
        for name in NETS:
            begin = time.process_time()
            net = trained(name, seed, folder, data)
            print(f"{name} seed {seed}: {accuracy(net, data):.2f} % ({time.process_time() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
