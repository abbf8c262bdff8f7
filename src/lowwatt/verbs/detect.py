"""detect: boxes on images, drawn and listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lowwatt.types import Detections

PACKAGED = "yolox_fpga_cpu"


def packaged_model() -> Path:
    """The detector that comes with the package: INT8, trained on a small part of COCO."""
    import lowwatt

    return Path(lowwatt.__file__).parent / "zoo" / f"{PACKAGED}.lwg"


def detect_images(
    sources: Sequence[str], model: Path | None, out: Path, backend: str, **options: Any
) -> list[dict[str, Any]]:
    """Run the detector on every image; rows of {source, file, detections, error}.

    One unreadable image does not stop the rest.
    """
    from lowwatt.letterbox import read_image
    from lowwatt.loading import load_graph
    from lowwatt.runtime import Engine
    from lowwatt.runtime.draw import draw, save

    graph = load_graph(model or packaged_model())
    engine = Engine(graph, choose_backend(backend, graph.is_quantized), **options)
    rows: list[dict[str, Any]] = []
    for result in engine.stream(list(sources)):
        target = ""
        if not result.error:
            target = str(_free_name(out, Path(result.source), {row["file"] for row in rows}))
            save(draw(read_image(result.source, 3), result.detections), target)
        rows.append(
            {
                "source": result.source,
                "file": target,
                "detections": listed(result.detections),
                "error": result.error,
            }
        )
    return rows


def choose_backend(name: str, quantized: bool) -> str:
    """`auto`: the compiled core for integers, onnxruntime for float."""
    if name != "auto":
        return name
    return "core" if quantized else "onnxruntime"


def listed(detections: Detections) -> list[dict[str, Any]]:
    """Detections as json-able rows, best first."""
    return [
        {
            "label": detections.names[label] if detections.names else str(label),
            "score": float(score),
            "xyxy": [float(v) for v in box],
        }
        for box, score, label in zip(detections.xyxy, detections.score, detections.label, strict=True)
    ]


def _free_name(out: Path, source: Path, taken: set[str]) -> Path:
    """OUT/NAME.jpg; images of one name from different folders do not overwrite each other."""
    target, number = out / f"{source.stem}.jpg", 1
    while str(target) in taken:
        target, number = out / f"{source.stem}-{number}.jpg", number + 1
    return target
