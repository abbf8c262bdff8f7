"""A report with the shape of a real one: ninety layers of a YOLOX, accuracies, figures, pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from lowwatt.evaluate.report import EpochRow, Figure, LayerRow, Machine, OffAccelerator, Picture, Report, StageAccuracy


def png(red: int, green: int, blue: int, side: int = 96) -> bytes:
    """A PNG with a gradient, written by hand so that the tests need no image library."""
    ramp = np.linspace(0.3, 1.0, side)[:, None, None] * np.array([red, green, blue])
    pixels = np.broadcast_to(ramp, (side, side, 3)).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def layer(index: int, random: np.random.Generator) -> LayerRow:
    """Large maps at the front and the head, deep narrow ones in the middle."""
    stage = index // 18
    block = ("backbone.dark2", "backbone.dark3", "backbone.dark5", "neck.up1", "head.tower_8")[min(stage, 4)]
    name = f"{block}.conv{index}"
    side = (160, 80, 20, 40, 40)[min(stage, 4)]
    macs = int(side * side * 9 * 24 * 12 * random.uniform(0.05, 1) * 400 / side)
    bytes_in, bytes_out = int(side * side * 24 * random.uniform(0.5, 3)), side * side * 24
    use = random.uniform(0.6, 0.95)
    conv = macs / 1152 / use
    cycles = {"conv": conv, "load": bytes_in / 21.7, "save": bytes_out / 19.3, "misc": 9e3 * (index % 7 == 3)}
    slowest = max(cycles, key=cycles.__getitem__)
    ms = cycles[slowest] / 150e3
    use *= conv / cycles[slowest]
    where, bound = ("host", "host") if index % 45 == 44 else ("dpu", slowest)
    op = "add" if index % 7 == 3 else "conv2d"
    snr = None if index % 45 == 44 else 34 - index / 6 + random.uniform(-4, 4)
    waits = {"load": 0.0, "misc": 0.0, "save": 0.0, "between": 0.0}
    if slowest != "conv" and where == "dpu":
        waits[slowest] = 1 - conv / cycles[slowest]
    origin, why = f"module {name}", "20 of 24 rows 17%"
    more = (waits, random.uniform(0, 1), random.uniform(0, 1)) if where == "dpu" else ()
    return LayerRow(name, op, where, macs, cycles, bytes_in, bytes_out, ms, use, bound, snr, origin, 0.83, why, *more)


ENERGY = (
    "0.757 W × time + 2.07 mJ an image over 20,288 images on the rail PSINT_FP, which leaves out the "
    "programmable logic and the memory; fitted to six published rows, ± 1.2 %"
)
FIGURES = [
    Figure("Latency", 24.707, "ms", "modelled", "± 1 % on seven published rows", "lower"),
    Figure("Accelerator time", 16.991, "ms", "modelled", "from the emitted instructions", "lower"),
    Figure("Host time", 7.716, "ms", "modelled", "32.9 ns an output element + 1.85 ms", "lower"),
    Figure("Frames a second", 40.474, "fps", "modelled", "1000 / latency", "higher"),
    Figure(
        "Energy",
        421.3,
        "J",
        "modelled",
        ENERGY,
        "lower",
    ),
    Figure("LPCV score", 57.38, "", "modelled", "10⁴/E · (AP−0.2) · (fps−5)", "higher"),
    Figure("xmodel", 6_284_112, "B", "measured", "file on disk", "lower"),
    Figure("Weights, fp16", 12_100_480, "B", "measured", "file on disk", "lower"),
]


def realistic_report(layers: int = 90, seed: int = 0) -> Report:
    """The same report for the same arguments."""
    random = np.random.default_rng(seed)
    epochs = [
        EpochRow(e, 4 + 12 * np.exp(-e / 12), 0.41 * (1 - np.exp(-e / 20)) if e % 5 == 0 else None)
        for e in range(1, 61)
    ]
    rows = [layer(index, random) for index in range(layers)]
    return Report(
        title="YOLOX-FPGA 0.375 · gray 320",
        when="2030-01-01 12:00 UTC",
        headline="INT8 keeps 98 % of the FP32 accuracy; 24.7 ms and 20.8 mJ an image on Ultra96-V2.",
        status="good",
        versions={
            "lowwatt": "0.1.0",
            "python": "3.11.2",
            "torch": "2.7.1",
            "target": "ultra96v2-lpcv (fingerprint 0x101)",
        },
        recipe="name: demo\ntarget: ultra96v2-lpcv\nmodel:\n  width: 0.375\n  size: 320\n",
        stages=[
            StageAccuracy("FP32", 0.412, 0.641, 408, "measured on val, 408 images, torch"),
            StageAccuracy("fake-quant", 0.405, 0.636, 408, "measured on val, 408 images, torch, same fix points"),
            StageAccuracy(
                "integer", 0.404, 0.634, 408, "measured on val, 408 images, compiled core, equal to the reference"
            ),
        ],
        figures=FIGURES,
        layers=rows,
        verdicts=[
            OffAccelerator("head.sigmoid", "sigmoid", "the DPU has no sigmoid", "leave decoding outside the graph")
        ],
        training=epochs,
        images=[Picture(f"val/{n:06d}.jpg · {n % 4} boxes", png(40 * n % 255, 90 + 20 * n, 200)) for n in range(6)],
        notes=[
            "Trained for 12 minutes on a CPU: accuracy is far below a full run.",
            "Energy is the ARM rail alone.",
        ],
        machine=Machine(
            172.8,
            3.25,
            150,
            sum(row.ms for row in rows if row.where == "dpu"),
            {name: random.uniform(0, 1, 300).tolist() for name in ("load", "save", "conv", "misc")},
        ),
    )
