"""detect: boxes on images, drawn and listed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowwatt.errors import ToolError
from lowwatt.runtime.results import listed

if TYPE_CHECKING:
    from lowwatt.backends import Backend
    from lowwatt.ir.graph import Graph

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
    strict: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Generator[dict[str, Any], None, None]:
    """Run the detector on every image; rows of {source, file, detections, error} as they come.

    One unreadable image does not stop the rest, unless `strict`. `labels`, `pixels` and `tell` are those of
    `evaluate_file`; `options` go to the engine.
    """
    from lowwatt.loading import load_with_head, read_labels
    from lowwatt.runtime import Engine

    names = () if labels is None else read_labels(labels)
    graph, line = load_with_head(model or packaged_model(), names, pixels)
    if line:
        tell(line)
    engine = Engine(graph, opened(backend, graph, model or packaged_model()), **options)
    with closing(engine.stream(list(sources), strict=strict, save=out)) as results:
        for result in results:
            found = listed(result.detections)
            yield {"source": result.source, "file": result.file, "detections": found, "error": result.error}


def choose_backend(name: str, quantized: bool) -> str:
    """`auto`: the compiled core for integers, onnxruntime for float."""
    if name != "auto":
        return name
    return "core" if quantized else "onnxruntime"


def opened(name: str, graph: Graph, file: Path) -> str | Backend:
    """The name of a backend, or one that runs programs, opened with what was compiled into the file."""
    from lowwatt.backends import open_backend, takes_programs
    from lowwatt.loading import load

    chosen = choose_backend(name, graph.is_quantized)
    return open_backend(chosen, load(file)) if takes_programs(chosen) else chosen
