"""Published board times of the networks of zoo_networks.py on single-core boards, and which of them are used.

Source: tables of Xilinx/Vitis-AI's model zoo (tag v1.0 and v1.1: AI-Model-Zoo/README.md; v1.4 and v2.0:
models/AI-Model-Zoo/README.md), every row of these networks on KV260 (one B4096 at 300 MHz) and Ultra96 (v1, one B1600
at 287 MHz). All are of the instruction set that the targets describe: Vitis AI 2.5 brought the next one to KV260.

Rules, fixed before any modelled time was looked at:

* A network is built from its published layer list and taken where its operations are within 2 % of those in the zoo's
  name. That leaves out sphereface-64 (+11 %), YOLOv3 of 288 x 512 (+4 %), SSD300 on VGG (-3 %), RefineDet (-8 %), and
  whatever was pruned. ResNet-v2 is not built: how the machine normalises ahead of a convolution is not known.
* Accelerator time is 1000 / frames a second with many threads (one core, kept busy). It is that only where the four
  processor cores keep up: the processor's share of a frame is one thread's time less the accelerator's, and at least
  half of what four cores could do must stay idle.
* A row that repeats another network's three figures is a slip of the table and is not used (ResNet-152 of 2.0).
* One row a network and board: the newest version; of several frameworks the first as the zoo lists them (Caffe and
  Darknet, TensorFlow, TensorFlow 2, PyTorch).
* Never fitted: the families that the first fit of the costs kept aside (MobileNet-v1, Tiny-YOLOv3, YOLOv2, YOLOX), and
  of those that it did not know every second one in alphabetical order.
"""

from __future__ import annotations

from dataclasses import dataclass

_CORES = 4
"""A53 cores beside the accelerator, on both boards."""
_IDLE = 0.5
"""Share of their time that must stay idle for the accelerator to be what limits."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the zoo's tables: frames a second with one thread and with many, `gops` as its name has them.

    Where the name counts multiply-accumulates, `gops` is twice that; MobileNet-v2's is that of its name since 2.5.
    """

    network: str
    board: str
    version: str
    zoo_name: str
    gops: float
    fps_one: float
    fps_many: float

    @property
    def ms(self) -> float:
        """Milliseconds a frame of the accelerator, if it is what limits."""
        return 1000 / self.fps_many

    @property
    def host_ms(self) -> float:
        """Milliseconds a frame of the processor: one thread's time less the accelerator's."""
        return 1000 / self.fps_one - self.ms

    @property
    def accelerator_limits(self) -> bool:
        """True where the processor's cores could do the work in the share of time that they may be busy."""
        return self.host_ms / _CORES <= (1 - _IDLE) * self.ms

    @property
    def family(self) -> str:
        """Network without size and variant; the bottleneck ResNets are one family, as are the SSDs and the VGGs."""
        name = self.network.split()[0]
        if name in ("resnet101", "resnet152"):
            return "resnet50"
        return next((family for family in ("personreid", "ssd", "vgg") if name.startswith(family)), name)


HELD_OUT = (
    "mobilenet_v1", "tiny_yolov3", "yolov2", "yolox_m",
    "facerec-resnet20", "inception_v2", "inception_v4", "personreid", "ssd",
)  # fmt: skip
"""Families that no fit may see."""


def used() -> list[Row]:
    """One row a network and board, by the rules above."""
    chosen: dict[tuple[str, str], Row] = {}
    for row in sorted(TABLE, key=lambda row: row.version, reverse=True):
        if row.accelerator_limits and not _is_slip(row):
            chosen.setdefault((row.network, row.board), row)
    return [row for row in TABLE if row in chosen.values()]


def _is_slip(row: Row) -> bool:
    """The figures of a smaller network stand in this one's line."""
    figures = (row.board, row.version, row.fps_one, row.fps_many)
    return any(
        other.gops < row.gops and other.network != row.network
        for other in TABLE
        if (other.board, other.version, other.fps_one, other.fps_many) == figures
    )


def fitted_rows() -> list[Row]:
    """Rows that costs may be fitted to."""
    return [row for row in used() if row.family not in HELD_OUT]


def held_out_rows() -> list[Row]:
    """Rows that costs are never fitted to."""
    return [row for row in used() if row.family in HELD_OUT]


# ruff: noqa: E501
# fmt: off
TABLE = [
    Row("resnet18", "kv260", "2.0", "cf_resnet18_imagenet_224_224_3.65G", 3.65, 189.8, 214.2),
    Row("resnet18", "kv260", "1.4", "cf_resnet18_imagenet_224_224_3.65G", 3.65, 186.1, 213.8),
    Row("resnet18", "ultra96v1", "1.0", "cf_resnet18_imagenet_224_224_3.65G", 3.65, 74.2167, 77.8167),
    Row("resnet50", "kv260", "2.0", "cf_resnet50_imagenet_224_224_7.7G", 7.7, 80.3, 84.8),
    Row("resnet50", "kv260", "2.0", "tf2_resnet50_imagenet_224_224_7.76G", 7.76, 79, 83.2),
    Row("resnet50", "kv260", "1.4", "cf_resnet50_imagenet_224_224_7.7G", 7.7, 73, 77.1),
    Row("resnet50", "kv260", "1.4", "tf2_resnet50_imagenet_224_224_7.76G", 7.76, 70.8, 74.9),
    Row("resnet50", "ultra96v1", "1.0", "cf_resnet50_imagenet_224_224_7.7G", 7.7, 32.4667, 33.4667),
    Row("resnet50 v1.5", "kv260", "2.0", "tf_mlperf_resnet50_imagenet_224_224_8.19G", 8.19, 72.6, 75.9),
    Row("resnet50 v1.5", "kv260", "2.0", "pt_resnet50_imagenet_224_224_4.1G", 8.2, 71.7, 75),
    Row("resnet50 v1.5", "kv260", "1.4", "tf_mlperf_resnet50_imagenet_224_224_8.19G", 8.19, 71.8, 75.8),
    Row("resnet50 slim", "kv260", "2.0", "tf_resnetv1_50_imagenet_224_224_6.97G", 6.97, 79.7, 84.2),
    Row("resnet50 slim", "kv260", "1.4", "tf_resnetv1_50_imagenet_224_224_6.97G", 6.97, 79.3, 84.1),
    Row("resnet50 slim", "ultra96v1", "1.0", "tf_resnet50_imagenet_224_224_6.97G", 6.97, 35.6833, 36.6),
    Row("resnet101 slim", "kv260", "2.0", "tf_resnetv1_101_imagenet_224_224_14.4G", 14.4, 43.4, 44.6),
    Row("resnet101 slim", "kv260", "1.4", "tf_resnetv1_101_imagenet_224_224_14.4G", 14.4, 43.2, 44.6),
    Row("resnet152 slim", "kv260", "2.0", "tf_resnetv1_152_imagenet_224_224_21.83G", 21.83, 43.4, 44.6),
    Row("resnet152 slim", "kv260", "1.4", "tf_resnetv1_152_imagenet_224_224_21.83G", 21.83, 29.8, 30.4),
    Row("reid", "kv260", "2.0", "cf_reid_market1501_160_80_0.95G", 0.95, 340.2, 379.8),
    Row("reid", "kv260", "1.4", "cf_reid_market1501_160_80_0.95G", 0.95, 331.2, 379.1),
    Row("reid", "ultra96v1", "1.0", "cf_reid_marketcuhk_160_80_0.95G", 0.95, 159.15, 166.633),
    Row("reid", "ultra96v1", "1.1", "cf_reid_market1501_160_80_0.95G", 0.95, 159.15, 166.633),
    Row("personreid-res18", "kv260", "2.0", "pt_personreid-res18_market1501_176_80_1.1G", 1.1, 338.7, 369.6),
    Row("personreid-res18", "kv260", "1.4", "pt_personreid-res18_market1501_176_80_1.1G", 1.1, 329.9, 368.9),
    Row("personreid-res50", "kv260", "2.0", "pt_personreid-res50_market1501_256_128_5.4G", 5.4, 96.7, 102.4),
    Row("personreid-res50", "kv260", "1.4", "pt_personreid-res50_market1501_256_128_5.4G", 5.4, 96, 102.3),
    Row("facerec-resnet20", "kv260", "2.0", "cf_facerec-resnet20_112_96_3.5G", 3.5, 162.7, 167.5),
    Row("facerec-resnet20", "kv260", "2.0", "pt_facerec-resnet20_mixed_112_96_3.5G", 3.5, 164.3, 168.8),
    Row("facerec-resnet20", "kv260", "1.4", "cf_facerec-resnet20_112_96_3.5G", 3.5, 161.1, 167),
    Row("facerec-resnet20", "kv260", "1.4", "pt_facerec-resnet20_mixed_112_96_3.5G", 3.5, 161, 167.1),
    Row("vgg16", "kv260", "2.0", "tf_vgg16_imagenet_224_224_30.96G", 30.96, 19.2, 19.5),
    Row("vgg16", "kv260", "1.4", "tf_vgg16_imagenet_224_224_30.96G", 30.96, 19.2, 19.5),
    Row("vgg19", "kv260", "2.0", "tf_vgg19_imagenet_224_224_39.28G", 39.28, 16.8, 17),
    Row("vgg19", "kv260", "1.4", "tf_vgg19_imagenet_224_224_39.28G", 39.28, 16.8, 17),
    Row("mobilenet_v1", "kv260", "2.0", "tf_mobilenetv1_1.0_imagenet_224_224_1.14G", 1.14, 316.9, 393.3),
    Row("mobilenet_v1", "kv260", "2.0", "tf2_mobilenetv1_imagenet_224_224_1.15G", 1.15, 313.4, 386.3),
    Row("mobilenet_v1", "kv260", "1.4", "tf_mobilenetv1_1.0_imagenet_224_224_1.14G", 1.14, 302.9, 387.5),
    Row("mobilenet_v1", "kv260", "1.4", "tf2_mobilenetv1_imagenet_224_224_1.15G", 1.15, 298.6, 380.6),
    Row("mobilenet_v1", "ultra96v1", "1.0", "tf_mobilenetv1_imagenet_224_224_1.14G", 1.14, 167.567, 186.55),
    Row("mobilenet_v1 0.5 160", "kv260", "2.0", "tf_mobilenetv1_0.5_imagenet_160_160_150.07M", 0.15007, 784, 1135),
    Row("mobilenet_v1 0.5 160", "kv260", "1.4", "tf_mobilenetv1_0.5_imagenet_160_160_150.07M", 0.15007, 725.8, 1127.5),
    Row("mobilenet_v1 0.25 128", "kv260", "2.0", "tf_mobilenetv1_0.25_imagenet_128_128_27.15M", 0.02715, 1277.2, 2088.7),
    Row("mobilenet_v1 0.25 128", "kv260", "1.4", "tf_mobilenetv1_0.25_imagenet_128_128_27.15M", 0.02715, 1133.2, 2053.8),
    Row("mobilenet_v2", "kv260", "2.0", "cf_mobilenetv2_imagenet_224_224_0.59G", 0.602, 261.9, 310.7),
    Row("mobilenet_v2", "kv260", "2.0", "tf_mobilenetv2_1.0_imagenet_224_224_0.59G", 0.602, 254.2, 299.9),
    Row("mobilenet_v2", "kv260", "1.4", "cf_mobilenetv2_imagenet_224_224_0.59G", 0.602, 252.9, 310.4),
    Row("mobilenet_v2", "kv260", "1.4", "tf_mobilenetv2_1.0_imagenet_224_224_0.59G", 0.602, 247, 299.9),
    Row("mobilenet_v2 1.4", "kv260", "2.0", "tf_mobilenetv2_1.4_imagenet_224_224_1.16G", 1.16, 184.7, 208.4),
    Row("mobilenet_v2 1.4", "kv260", "1.4", "tf_mobilenetv2_1.4_imagenet_224_224_1.16G", 1.16, 181.1, 208.2),
    Row("mobilenet_v2 1.4", "ultra96v1", "1.0", "tf_mobilenetv2_imagenet_224_224_1.17G", 1.17, 98.3, 104.25),
    Row("mobilenet_edge", "kv260", "2.0", "tf_mobilenetEdge1.0_imagenet_224_224_990M", 1.98, 205.6, 234.2),
    Row("mobilenet_edge", "kv260", "1.4", "tf_mobilenetEdge1.0_imagenet_224_224_990M", 1.98, 199.7, 234),
    Row("mobilenet_edge 0.75", "kv260", "2.0", "tf_mobilenetEdge0.75_imagenet_224_224_624M", 1.248, 248.8, 292.4),
    Row("mobilenet_edge 0.75", "kv260", "1.4", "tf_mobilenetEdge0.75_imagenet_224_224_624M", 1.248, 241.3, 291.9),
    Row("efficientnet_edge S", "kv260", "2.0", "tf_efficientnet-edgetpu-S_imagenet_224_224_4.72G", 4.72, 115.7, 124.4),
    Row("efficientnet_edge S", "kv260", "1.4", "tf_efficientnet-edgetpu-S_imagenet_224_224_4.72G", 4.72, 96.9, 104.4),
    Row("efficientnet_edge M", "kv260", "2.0", "tf_efficientnet-edgetpu-M_imagenet_240_240_7.34G", 7.34, 80.2, 84.8),
    Row("efficientnet_edge M", "kv260", "1.4", "tf_efficientnet-edgetpu-M_imagenet_240_240_7.34G", 7.34, 70.3, 74.4),
    Row("efficientnet_edge L", "kv260", "2.0", "tf_efficientnet-edgetpu-L_imagenet_300_300_19.36G", 19.36, 32.7, 36.4),
    Row("efficientnet_edge L", "kv260", "1.4", "tf_efficientnet-edgetpu-L_imagenet_300_300_19.36G", 19.36, 28.4, 31.2),
    Row("inception_v1", "kv260", "2.0", "cf_inceptionv1_imagenet_224_224_3.16G", 3.16, 187.9, 211.4),
    Row("inception_v1", "kv260", "1.4", "cf_inceptionv1_imagenet_224_224_3.16G", 3.16, 183.2, 210.6),
    Row("inception_v1", "ultra96v1", "1.0", "cf_inceptionv1_imagenet_224_224_3.16G", 3.16, 71.55, 75.0667),
    Row("inception_v1 slim", "kv260", "2.0", "tf_inceptionv1_imagenet_224_224_3G", 3, 189.3, 214.2),
    Row("inception_v1 slim", "kv260", "1.4", "tf_inceptionv1_imagenet_224_224_3G", 3, 185.7, 214.7),
    Row("inception_v1 slim", "ultra96v1", "1.0", "tf_inceptionv1_imagenet_224_224_3G", 3, 58.9667, 61.2833),
    Row("inception_v2", "kv260", "2.0", "cf_inceptionv2_imagenet_224_224_4G", 4, 134.4, 146.8),
    Row("inception_v2", "kv260", "1.4", "cf_inceptionv2_imagenet_224_224_4G", 4, 132.8, 147.8),
    Row("inception_v2", "ultra96v1", "1.0", "cf_inceptionv2_imagenet_224_224_4G", 4, 58.2667, 61.2833),
    Row("inception_v2 slim", "kv260", "2.0", "tf_inceptionv2_imagenet_224_224_3.88G", 3.88, 94.7, 100.7),
    Row("inception_v2 slim", "kv260", "1.4", "tf_inceptionv2_imagenet_224_224_3.88G", 3.88, 93.8, 100.6),
    Row("inception_v3", "kv260", "2.0", "cf_inceptionv3_imagenet_299_299_11.4G", 11.4, 59.9, 63.7),
    Row("inception_v3", "kv260", "2.0", "tf_inceptionv3_imagenet_299_299_11.45G", 11.45, 59.7, 63.6),
    Row("inception_v3", "kv260", "2.0", "tf2_inceptionv3_imagenet_299_299_11.5G", 11.5, 59.3, 63.1),
    Row("inception_v3", "kv260", "2.0", "pt_inceptionv3_imagenet_299_299_5.7G", 11.4, 59.9, 63.8),
    Row("inception_v3", "kv260", "1.4", "cf_inceptionv3_imagenet_299_299_11.4G", 11.4, 59.3, 63.7),
    Row("inception_v3", "kv260", "1.4", "tf_inceptionv3_imagenet_299_299_11.45G", 11.45, 59.1, 63.5),
    Row("inception_v3", "kv260", "1.4", "tf2_inceptionv3_imagenet_299_299_11.5G", 11.5, 58.7, 63),
    Row("inception_v3", "ultra96v1", "1.0", "cf_inceptionv3_imagenet_299_299_11.4G", 11.4, 22.7, 23.4333),
    Row("inception_v4", "kv260", "2.0", "cf_inceptionv4_imagenet_299_299_24.5G", 24.5, 29.2, 30.1),
    Row("inception_v4", "kv260", "2.0", "tf_inceptionv4_imagenet_299_299_24.55G", 24.55, 29.3, 30.2),
    Row("inception_v4", "kv260", "1.4", "cf_inceptionv4_imagenet_299_299_24.5G", 24.5, 29.1, 30.1),
    Row("inception_v4", "kv260", "1.4", "tf_inceptionv4_imagenet_299_299_24.55G", 24.55, 29.1, 30.1),
    Row("inception_v4", "ultra96v1", "1.0", "cf_inceptionv4_imagenet_299_299_24.5G", 24.5, 11.2667, 11.5333),
    Row("inception_resnet_v2", "kv260", "2.0", "tf_inceptionresnetv2_imagenet_299_299_26.35G", 26.35, 22.7, 23.2),
    Row("inception_resnet_v2", "kv260", "1.4", "tf_inceptionresnetv2_imagenet_299_299_26.35G", 26.35, 22.6, 23.2),
    Row("squeezenet", "kv260", "2.0", "cf_squeezenet_imagenet_227_227_0.76G", 0.76, 285.9, 654.9),
    Row("squeezenet", "kv260", "1.4", "cf_squeezenet_imagenet_227_227_0.76G", 0.76, 269.9, 557.7),
    Row("squeezenet", "ultra96v1", "1.0", "cf_squeeze_imagenet_227_227_0.76G", 0.76, 167.867, 283.583),
    Row("squeezenet 224", "kv260", "2.0", "pt_squeezenet_imagenet_224_224_351.7M", 0.7034, 311.8, 675.5),
    Row("yolov2", "kv260", "2.0", "dk_yolov2_voc_448_448_34G", 34, 27.2, 28.9),
    Row("yolov2", "kv260", "1.4", "dk_yolov2_voc_448_448_34G", 34, 27.1, 29),
    Row("yolov2", "ultra96v1", "1.0", "dk_yolov2_voc_448_448_34G", 34, 8.46667, 8.9),
    Row("tiny_yolov3", "kv260", "2.0", "dk_tiny-yolov3_416_416_5.46G", 5.46, 126.2, 165.8),
    Row("tiny_yolov3", "kv260", "1.4", "dk_tiny-yolov3_416_416_5.46G", 5.46, 123.3, 165.7),
    Row("yolov3 416", "kv260", "2.0", "dk_yolov3_voc_416_416_65.42G", 65.42, 13.2, 13.6),
    Row("yolov3 416", "kv260", "2.0", "tf_yolov3_voc_416_416_65.63G", 65.63, 13.9, 14.3),
    Row("yolov3 416", "kv260", "1.4", "dk_yolov3_voc_416_416_65.42G", 65.42, 13.3, 13.8),
    Row("yolov3 416", "kv260", "1.4", "tf_yolov3_voc_416_416_65.63G", 65.63, 13.3, 13.8),
    Row("yolov3 416", "ultra96v1", "1.0", "dk_yolov3_voc_416_416_65.42G", 65.42, 5.4, 5.53),
    Row("yolov3 416", "ultra96v1", "1.0", "tf_yolov3_voc_416_416_65.63G", 65.63, 5.01667, 5.1),
    Row("yolov4 416", "kv260", "2.0", "dk_yolov4_coco_416_416_60.1G", 60.1, 13.8, 14.7),
    Row("yolov4 416", "kv260", "1.4", "dk_yolov4_coco_416_416_60.1G", 60.1, 13.8, 14.8),
    Row("yolox_m 640", "kv260", "2.0", "pt_yolox_TT100K_640_640_73G", 73, 13.4, 14.2),
    Row("ssd_mobilenet_v1", "kv260", "2.0", "tf_ssdmobilenetv1_coco_300_300_2.47G", 2.47, 110.8, 165.7),
    Row("ssd_mobilenet_v1", "kv260", "1.4", "tf_ssdmobilenetv1_coco_300_300_2.47G", 2.47, 110, 163.2),
    Row("ssd_mobilenet_v2", "kv260", "2.0", "tf_ssdmobilenetv2_coco_300_300_3.75G", 3.75, 79.4, 103.7),
    Row("ssd_mobilenet_v2", "kv260", "1.4", "tf_ssdmobilenetv2_coco_300_300_3.75G", 3.75, 79.7, 102.3),
    Row("ssdlite_mobilenet_v2", "kv260", "2.0", "tf_ssdlite_mobilenetv2_coco_300_300_1.5G", 1.5, 106.4, 148.6),
    Row("ssdlite_mobilenet_v2", "kv260", "1.4", "tf_ssdlite_mobilenetv2_coco_300_300_1.5G", 1.5, 102.3, 143.1),
    Row("ssd_inception_v2", "kv260", "2.0", "tf_ssdinceptionv2_coco_300_300_9.62G", 9.62, 40, 45.5),
    Row("ssd_inception_v2", "kv260", "1.4", "tf_ssdinceptionv2_coco_300_300_9.62G", 9.62, 39.3, 44.9),
]
# fmt: on
