"""A made-up quantization that looks like a real one, for tests of its page."""

from __future__ import annotations

import math

from lowwatt.evaluate.quant_page import Layer, QuantRecord, Stage, Step, TensorRow


def quant_record(layers: int = 60) -> QuantRecord:
    """A detector of some layers; the values are smooth functions of the index, the same each time."""
    return QuantRecord(
        title="detector.safetensors on vitis",
        scheme="vitis",
        effort="good",
        images=128,
        bits="W8A8",
        formats="weights int8, power of two; activations int8, power of two",
        calibration="mse",
        stages=[
            Stage("FP32", 0.3121, "measured on 500 images: the float network on onnxruntime"),
            Stage("fake-quant", 0.3012, "measured on 500 images: rounded values in float, on torch"),
            Stage("integer", 0.3009, "measured on 500 images: the integers on the compiled core"),
        ],
        max_drop=0.05,
        steps=[
            Step("calibrate ranges", 11.2, 17.25, True),
            Step("correct means", 4.1, 18.5, True),
            Step("equalize channels", 15.3, 18.25, False),
            Step("reconstruct weights", 220.0, 21.0, True),
        ],
        judged=16,
        warnings=["image 7 is black"],
        layers=[_layer(index, layers) for index in range(layers)],
        analysed=8,
        tensors=[
            TensorRow("images", "activations", "int8, power of two", "2⁰", "every input of the graph"),
            TensorRow("stem.weight", "weights", "int8, power of two", "2⁻⁷", "weights of conv2d"),
            TensorRow("exp_1", "activations", "float", "", "exp runs in float on vitis"),
            TensorRow("exp_2", "activations", "float", "", "exp runs in float on vitis"),
            TensorRow("sum", "activations", "float", "", "only float operators around it"),
        ],
    )


def _layer(index: int, layers: int) -> Layer:
    share = index / layers
    head = share > 0.8
    alone = {
        "class": 30 + 8 * math.sin(index),
        "box": 100.0 if head and index % 2 else 33 + 6 * math.cos(1.3 * index),
        "objectness": 100.0 if head and not index % 2 else 35 + 4 * math.sin(2.1 * index),
    }
    name = f"backbone.dark{1 + index // 12}.{index % 12}.conv"
    op = ("conv2d", "add", "concat")[index % 3]
    return Layer(name, op, 8, alone, 34 - 14 * share + math.sin(index), 1 - 0.004 * share, 0.9 * math.sin(index) ** 5)
