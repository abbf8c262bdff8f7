"""Detectors of the model zoo as Graphs of shapes; decoding and suppression, which run on the CPU, are left out.

Where the zoo's text leaves a choice open, the one whose operation count is the zoo's was taken; each is named.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo_classifiers import inception_v2_blocks, mobilenet_v2_blocks
from zoo_graph import Network

from lowwatt.ir.graph import Graph

# -- YOLO -----------------------------------------------------------------------------------------------------------


def yolov2(side: int = 448) -> Graph:
    """Darknet-19 with its passthrough; the reordering of pixels to channels counts as addresses."""
    n = Network(side, "leaky_relu")
    x, fine = n.image, ""
    for width, depth in ((32, 1), (64, 1), (128, 3), (256, 3), (512, 5), (1024, 5)):
        for index in range(depth):
            x = n.conv(x, width // 2) if index % 2 else n.conv(x, width, 3)
        fine = x if width == 512 else fine
        x = n.pool(x, 2, 2) if width < 1024 else x
    x = n.conv(n.conv(x, 1024, 3), 1024, 3)
    rows, columns = n.graph.tensor(x).shape[1:3]
    fine = n.op("reshape", [n.conv(fine, 64)], shape=(1, rows, columns, 256))
    return n.end(n.conv(n.conv(n.join(fine, x), 1024, 3), 125, act="none"))


def tiny_yolov3(outputs: int) -> Graph:
    n = Network(416, "leaky_relu")
    x, fine = n.image, ""
    for width in (16, 32, 64, 128, 256, 512):
        x = n.conv(x, width, 3)
        fine = x if width == 256 else fine
        x = n.pool(x, 2, 2) if width < 512 else x
    x = n.op("max_pool", [x], kernel=(2, 2), stride=(1, 1), pad=(0, 1, 0, 1))
    x = n.conv(n.conv(x, 1024, 3), 256)
    coarse = n.conv(n.conv(x, 512, 3), outputs, act="none")
    x = n.join(n.up(n.conv(x, 128)), fine)
    return n.end(coarse, n.conv(n.conv(x, 256, 3), outputs, act="none"))


def yolov3(outputs: int, side: int = 416) -> Graph:
    n = Network(side, "leaky_relu")
    x, stages = n.conv(n.image, 32, 3), []
    for width, depth in [(64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)]:
        x = n.conv(x, width, 3, 2)
        for _ in range(depth):
            x = n.add(n.conv(n.conv(x, width // 2), width, 3), x)
        stages.append(x)
    ends = []
    for level, width in enumerate((512, 256, 128)):
        x = _five(n, x, width)
        ends.append(n.conv(n.conv(x, 2 * width, 3), outputs, act="none"))
        if level < 2:
            x = n.join(n.up(n.conv(x, width // 2)), stages[3 - level])
    return n.end(*ends)


def _five(n: Network, x: str, width: int) -> str:
    for _ in range(2):
        x = n.conv(n.conv(x, width), 2 * width, 3)
    return n.conv(x, width)


def yolov4(outputs: int = 255, side: int = 416) -> Graph:
    """YOLOv4 with LeakyReLU for Mish; pools of 9 and 13 as chains of 5x5 pools, which give the same."""
    n = Network(side, "leaky_relu")
    x, stages = n.conv(n.image, 32, 3), []
    for width, depth in [(64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)]:
        x = _csp_darknet(n, n.conv(x, width, 3, 2), width, depth)
        stages.append(x)
    x = _pyramid_pool(n, n.conv(n.conv(n.conv(x, 512), 1024, 3), 512))
    deep = n.conv(n.conv(n.conv(x, 512), 1024, 3), 512)
    middle = _five(n, n.join(n.conv(stages[3], 256), n.up(n.conv(deep, 256))), 256)
    x = _five(n, n.join(n.conv(stages[2], 128), n.up(n.conv(middle, 128))), 128)
    ends = [n.conv(n.conv(x, 256, 3), outputs, act="none")]
    for width, beside in ((256, middle), (512, deep)):
        x = _five(n, n.join(n.conv(x, width, 3, 2), beside), width)
        ends.append(n.conv(n.conv(x, 2 * width, 3), outputs, act="none"))
    return n.end(*ends)


def _csp_darknet(n: Network, x: str, width: int, depth: int) -> str:
    inner = width if depth == 1 else width // 2
    side, y = n.conv(x, inner), n.conv(x, inner)
    for _ in range(depth):
        y = n.add(n.conv(n.conv(y, width // 2), inner, 3), y)
    return n.conv(n.join(n.conv(y, inner), side), width)


def _pyramid_pool(n: Network, x: str) -> str:
    five = n.pool(x, 5, 1, 2)
    nine = n.pool(five, 5, 1, 2)
    return n.join(n.pool(nine, 5, 1, 2), nine, five, x)


def yolox_m(classes: int, side: int = 640) -> Graph:
    """YOLOX-m with ReLU; Focus' reordering is done before the network (12 channels at half the size)."""
    n = Network(side // 2)
    n.graph.tensors["image"].shape = (1, side // 2, side // 2, 12)
    x = n.conv(n.image, 48, 3)
    stages = []
    for width, depth in ((96, 2), (192, 6), (384, 6), (768, 0)):
        x = n.conv(x, width, 3, 2)
        stages.append(x := _csp(n, x, width, depth) if depth else x)
    x = n.conv(_pyramid_pool(n, n.conv(x, 384)), 768)
    deep = n.conv(_csp(n, x, 768, 2, add=False), 384)
    middle = n.conv(_csp(n, n.join(n.up(deep), stages[2]), 384, 2, add=False), 192)
    features = [_csp(n, n.join(n.up(middle), stages[1]), 192, 2, add=False)]
    for width, beside in ((192, middle), (384, deep)):
        down = n.conv(features[-1], width, 3, 2)
        features.append(_csp(n, n.join(down, beside), 2 * width, 2, add=False))
    ends = []
    for feature in features:
        stem = n.conv(feature, 192)
        kind, box = (n.conv(n.conv(stem, 192, 3), 192, 3) for _ in range(2))
        ends += [n.conv(kind, classes, act="none"), n.conv(box, 4, act="none"), n.conv(box, 1, act="none")]
    return n.end(*ends)


def _csp(n: Network, x: str, outputs: int, depth: int, add: bool = True) -> str:
    y, side = n.conv(x, outputs // 2), n.conv(x, outputs // 2)
    for _ in range(depth):
        z = n.conv(n.conv(y, outputs // 2), outputs // 2, 3)
        y = n.add(z, y) if add else z
    return n.conv(n.join(y, side), outputs)


# -- SSD ------------------------------------------------------------------------------------------------------------


def _ssd_heads(n: Network, taps: Sequence[str], anchors: Sequence[int], classes: int, kernel: int) -> Graph:
    """Box and class of each anchor; kernel 0: a depthwise 3x3 convolution and a 1x1 one."""
    ends = []
    for tap, count in zip(taps, anchors, strict=True):
        for outputs in (4, classes):
            x = tap if kernel else n.depthwise(tap)
            ends.append(n.conv(x, count * outputs, kernel or 1, act="none"))
    return n.end(*ends)


def _ssd_extras(n: Network, x: str, lite: bool = False) -> list[str]:
    """Four maps of half the size each behind the backbone."""
    taps = []
    for width in (512, 256, 256, 128):
        y = n.conv(x, width // 2)
        x = n.conv(n.depthwise(y, 2), width) if lite else n.conv(y, width, 3, 2)
        taps.append(x)
    return taps


def ssd_mobilenet_v1() -> Graph:
    """TensorFlow's detector at 300 pixels, COCO, 1x1 heads."""
    n = Network(300, "relu6")
    x, taps = n.conv(n.image, 32, 3, 2), []
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for index, (width, stride) in enumerate(plan):
        x = n.conv(n.depthwise(x, stride), width)
        taps += [x] if index in (10, 12) else []
    return _ssd_heads(n, [*taps, *_ssd_extras(n, x)], (3, 6, 6, 6, 6, 6), 91, 1)


def ssd_mobilenet_v2(lite: bool) -> Graph:
    """TensorFlow's detectors at 300 pixels, COCO; the lite one has depthwise extras and heads, the other 3x3 heads."""
    n = Network(300, "relu6")
    x, fine = mobilenet_v2_blocks(n, 1.0)
    x = n.conv(x, 1280)
    return _ssd_heads(n, [fine, x, *_ssd_extras(n, x, lite)], (3, 6, 6, 6, 6, 6), 91, 0 if lite else 3)


def ssd_inception_v2() -> Graph:
    """TensorFlow's detector at 300 pixels, COCO, 3x3 heads."""
    n = Network(300)
    fine, x = inception_v2_blocks(n, slim=True)
    return _ssd_heads(n, [fine, x, *_ssd_extras(n, x)], (3, 6, 6, 6, 6, 6), 91, 3)
