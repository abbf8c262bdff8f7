"""Where quantization loses: signal to noise of every tensor and every output, integers against the float network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from lowwatt.ir.graph import Graph
from lowwatt.ir.interpreter import execute
from lowwatt.quant.executor import TorchExecutor
from lowwatt.types import Array


def snr_db(signal: Array, approximation: Array) -> float:
    """10 log10 of signal power over error power; infinite where they are equal.

    >>> snr_db(np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    inf
    """
    signal = signal.astype(np.float64)
    noise = float(((signal - approximation) ** 2).sum())
    power = float((signal**2).sum())
    return math.inf if noise == 0 else 10 * math.log10(max(power, 1e-30) / noise)


def cosine(signal: Array, approximation: Array) -> float:
    """Cosine of the angle between two tensors as vectors; 1 where both are zero."""
    a, b = signal.astype(np.float64).ravel(), approximation.astype(np.float64).ravel()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else float(not a.any() and not b.any())


def output_snr(real: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """dB of each output of a network, at most 100."""
    return {name: min(100.0, snr_db(value.numpy(), found[name].numpy())) for name, value in real.items()}


def output_noise(real: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> float:
    """Error power at the outputs as a share of their signal's, mean over the outputs; noises of layers add up."""
    return float(np.mean([10 ** (-db / 10) for db in output_snr(real, found).values()]))


def accumulated_snr(floating: Graph, quantized: Graph, image: Array) -> dict[str, float]:
    """dB of each tensor with all errors before it: the integer reference against float, on one batch (NHWC)."""
    real: dict[str, Array] = {}
    with torch.inference_mode():
        executor = TorchExecutor(floating)
        executor({floating.inputs[0]: torch.from_numpy(image)}, lambda n, v: real.__setitem__(n, v.numpy().copy()))
    integers: Mapping[str, Array] = execute(quantized, {quantized.inputs[0]: image})
    table = {}
    for node in quantized.nodes:
        quant = quantized.tensor(node.name).quant
        if quant is not None and node.name in real:
            table[node.name] = snr_db(real[node.name], quant.dequantize(integers[node.name]))
    return table
