"""Data sets in tar files, for more images than one disk holds: shards, and a COCO json that says where each image lies.

The index is COCO's own json; the `file_name` of an image is a path into a shard (lowwatt.members). Shards are plain
tars that any tool unpacks, and may lie in several folders, on a disk each.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowwatt.data.coco import CocoData, Finding, read_coco
from lowwatt.errors import ToolError
from lowwatt.files import atomic_path, write_text
from lowwatt.members import member_path, read_bytes, size_of


def read_shards(roots: Sequence[Path], name: str, classes: Sequence[str] | None = None) -> CocoData:
    """Read a split whose index is NAME in the first root that has it, and whose shards lie in any of the roots.

    Raises ToolError for a missing or damaged index, and for a shard that is in no root.
    """
    index = next((root / name for root in roots if (root / name).is_file()), roots[0] / name)
    data = read_coco(index, "", classes)
    places = {tar: _find(tar, roots) for tar in sorted({image.path.parent.name for image in data.images})}
    images = tuple(replace(image, path=places[image.path.parent.name] / image.path.name) for image in data.images)
    return replace(data, images=images)


def _find(tar: str, roots: Sequence[Path]) -> Path:
    with contextlib.suppress(OSError):  # a name that no file can have
        for root in roots:
            if tar.endswith(".tar") and (root / tar).is_file():
                return root / tar
    looked = ", ".join(map(str, roots))
    raise ToolError(f"no shard {tar[:80]!r}", where=looked, hint="name the folders with shards in data.roots")


def write_shards(data: CocoData, out: Path, name: str, megabytes: float) -> list[Finding]:
    """Write OUT/NAME-00000.tar … of at most `megabytes` each (more only for one larger image), then OUT/NAME.json.

    The same split gives the same bytes. Images that cannot be read are left out and told. A folder that has the index
    has all of its shards.
    """
    index = out / f"{name}.json"
    index.unlink(missing_ok=True)
    files: dict[int, Path] = {}
    missing: list[Finding] = []
    for number, places in enumerate(_parts(data, megabytes * 1e6)):
        tar = out / f"{name}-{number:05d}.tar"
        with atomic_path(tar) as path:
            files |= _write_tar(path, tar.name, data, places, missing)
    if not files:
        raise ToolError("no image could be read", where=str(data.source))
    write_text(index, json.dumps(_index(data, files)))
    return missing


def _parts(data: CocoData, limit: float) -> Iterator[list[int]]:
    """Places in the split of the images of each shard in turn."""
    part: list[int] = []
    filled = 0
    for place, image in enumerate(data.images):
        try:
            size = size_of(image.path)
        except OSError:
            size = 0  # told where it is read
        if part and filled + size > limit:
            yield part
            part, filled = [], 0
        part.append(place)
        filled += size
    if part:
        yield part


def _write_tar(path: Path, tar: str, data: CocoData, places: Sequence[int], missing: list[Finding]) -> dict[int, Path]:
    """The members' paths by place in the split."""
    written: dict[int, Path] = {}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for place in places:
            image = data.images[place]
            try:
                content = read_bytes(image.path)
            except OSError as error:
                missing.append(Finding("missing image", image.path.name, error.strerror or str(error)))
                continue
            name = image.path.name.rpartition("@")[2]  # of a member only what it was called
            info = tarfile.TarInfo(f"{image.id}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            blocks = -(-len(content) // tarfile.BLOCKSIZE)  # what comes before may be more than one block
            written[place] = member_path(Path(tar), archive.offset - blocks * tarfile.BLOCKSIZE, len(content), name)
    return written


def _index(data: CocoData, files: Mapping[int, Path]) -> dict[str, Any]:
    images, annotations = [], list[dict[str, Any]]()
    for place, path in files.items():
        image, one = data.images[place], data.boxes[place]
        images.append({"id": image.id, "file_name": path.as_posix(), "width": image.width, "height": image.height})
        for xywh, label, crowd, area in zip(one.xywh.tolist(), one.label, one.crowd, one.area.tolist(), strict=True):
            ids = {"id": len(annotations) + 1, "image_id": image.id, "category_id": data.category_ids[label]}
            annotations.append({**ids, "bbox": xywh, "area": area, "iscrowd": int(crowd)})
    categories = [{"id": i, "name": name} for i, name in zip(data.category_ids, data.labels, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}
