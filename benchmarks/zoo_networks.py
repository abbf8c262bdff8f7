"""Networks of the model zoo as Graphs of shapes (weights zero): what published board times are compared on.

Run as a program it compares each one's operation count with that in the zoo's name:

    python benchmarks/zoo_networks.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import zoo_classifiers as c
import zoo_detectors as d
from verdict import conclude
from zoo_rows import used

from lowwatt.ir.graph import Graph
from lowwatt.ir.ops import spec

NETWORKS: dict[str, Callable[[], Graph]] = {
    "resnet18": c.resnet18,
    "resnet50": lambda: c.resnet(c.RESNET50, "caffe"),
    "resnet50 v1.5": lambda: c.resnet(c.RESNET50, "torch"),
    "resnet50 slim": lambda: c.resnet(c.RESNET50, "slim"),
    "resnet101 slim": lambda: c.resnet((3, 4, 23, 3), "slim"),
    "resnet152 slim": lambda: c.resnet((3, 8, 36, 3), "slim"),
    "reid": lambda: c.resnet18((160, 80), 0),
    "personreid-res18": lambda: c.resnet18((176, 80), 0),
    "personreid-res50": lambda: c.resnet(c.RESNET50, "torch", (256, 128)),
    "facerec-resnet20": lambda: c.sphereface((1, 2, 4, 1)),
    "vgg16": lambda: c.vgg((2, 2, 3, 3, 3)),
    "vgg19": lambda: c.vgg((2, 2, 4, 4, 4)),
    "mobilenet_v1": c.mobilenet_v1,
    "mobilenet_v1 0.5 160": lambda: c.mobilenet_v1(0.5, 160),
    "mobilenet_v1 0.25 128": lambda: c.mobilenet_v1(0.25, 128),
    "mobilenet_v2": c.mobilenet_v2,
    "mobilenet_v2 1.4": lambda: c.mobilenet_v2(1.4),
    "mobilenet_edge": lambda: c.mobilenet_edge(1.0),
    "mobilenet_edge 0.75": lambda: c.mobilenet_edge(0.75),
    "efficientnet_edge S": lambda: c.efficientnet_edge(1.0, 1.0, 224),
    "efficientnet_edge M": lambda: c.efficientnet_edge(1.0, 1.1, 240),
    "efficientnet_edge L": lambda: c.efficientnet_edge(1.2, 1.4, 300),
    "inception_v1": c.inception_v1,
    "inception_v1 slim": lambda: c.inception_v1(large=3),
    "inception_v2": lambda: c.inception_v2(slim=False),
    "inception_v2 slim": lambda: c.inception_v2(slim=True),
    "inception_v3": c.inception_v3,
    "inception_v4": c.inception_v4,
    "inception_resnet_v2": c.inception_resnet_v2,
    "squeezenet": c.squeezenet,
    "squeezenet 224": lambda: c.squeezenet(224),
    "yolov2": d.yolov2,
    "tiny_yolov3": lambda: d.tiny_yolov3(75),
    "yolov3 416": lambda: d.yolov3(75),
    "yolov4 416": d.yolov4,
    "yolox_m 640": lambda: d.yolox_m(45),
    "ssd_mobilenet_v1": d.ssd_mobilenet_v1,
    "ssd_mobilenet_v2": lambda: d.ssd_mobilenet_v2(lite=False),
    "ssdlite_mobilenet_v2": lambda: d.ssd_mobilenet_v2(lite=True),
    "ssd_inception_v2": d.ssd_inception_v2,
}


def gops(graph: Graph) -> float:
    """Operations a frame, two a multiply-accumulate, in 1e9."""
    macs = 0
    for node in graph.nodes:
        shapes = [graph.tensor(name).shape for name in node.inputs]
        macs += spec(node.op).macs(node, shapes, graph.tensor(node.name).shape)
    return 2 * macs / 1e9


def main() -> int:
    worst = 0.0
    for network, row in {row.network: row for row in used()}.items():
        built = gops(NETWORKS[network]())
        error = 100 * (built / row.gops - 1)
        worst = max(worst, abs(error))
        print(f"{network:22} {row.zoo_name:52} {row.gops:8.3f} in its name, {built:8.3f} built {error:+5.1f} %")
    what = f"operations of {len(NETWORKS)} networks against those in their names, worst error"
    return conclude(what, f"{worst:.1f} %", "2.0 %", round(worst, 1) <= 2)


if __name__ == "__main__":
    sys.exit(main())
