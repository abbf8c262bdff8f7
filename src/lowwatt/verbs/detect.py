"""detect: boxes on images, drawn and listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lowwatt.errors import ToolError
from lowwatt.types import Detections

PACKAGED = "yolox_fpga_person"


def packaged_model() -> Path:
    """The detector that comes with the package: INT8, trained on a small part of COCO."""
    import lowwatt

    path = Path(lowwatt.__file__).parent / "zoo" / f"{PACKAGED}.lwg"
    if not path.is_file():
        raise ToolError("this installation carries no detector", where=str(path), hint="name your own with --model")
    return path


def detect_images(
    sources: Sequence[str],
    model: Path | None,
    out: Path,
    backend: str,
    *,
    labels: Path | None = None,
    pixels: str = "",
    tell: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Run the detector on every image; rows of {source, file, detections, error}.

    One unreadable image does not stop the rest. `labels`, `pixels` and `tell` are those of `evaluate_file`.
    """
    from lowwatt.letterbox import read_image
    from lowwatt.loading import load_with_head, read_labels
    from lowwatt.runtime import Engine
    from lowwatt.runtime.draw import draw, save
    from lowwatt.runtime.sources import images_of

    images = [str(image) for image in images_of(list(sources))]
    _refuse_overwriting(images, out)
    names = () if labels is None else read_labels(labels)
    graph, line = load_with_head(model or packaged_model(), names, pixels)
    if line:
        tell(line)
    engine = Engine(graph, choose_backend(backend, graph.is_quantized), **options)
    rows: list[dict[str, Any]] = []
    taken: set[Path] = set()
    for result in engine.stream(images):
        target, error = _free_name(out, Path(result.source), taken), result.error
        if not error:
            try:
                save(draw(read_image(result.source, 3), result.detections), target)
                taken.add(target)
            except ToolError as failure:
                error = str(failure)
        file = "" if error else str(target)
        rows.append({"source": result.source, "file": file, "detections": listed(result.detections), "error": error})
    return rows


def _refuse_overwriting(images: Sequence[str], out: Path) -> None:
    """The pictures with boxes must not take the place of the user's own."""
    folders = {Path(image).parent.resolve() for image in images}
    if out.resolve() in folders:
        hint = "name another folder with --out"
        raise ToolError("the pictures with boxes would overwrite your own", where=str(out), hint=hint)


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


def _free_name(out: Path, source: Path, taken: set[Path]) -> Path:
    """OUT/NAME.jpg; images of one name from different folders do not overwrite each other."""
    target, number = out / f"{source.stem}.jpg", 1
    while target in taken:
        target, number = out / f"{source.stem}-{number}.jpg", number + 1
    return target
