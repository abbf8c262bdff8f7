"""The command line where things go wrong around it: odd data sets, folders, names, closed pipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lowwatt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """lowwatt(*arguments) → exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> tuple[int, str, str]:
        from lowwatt.cli import main

        monkeypatch.setattr("sys.argv", ["lowwatt", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def write_coco(folder: Path) -> None:
    """One image with a good box and one outside of it, one image that is not there, one class without a box."""
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images/a.png"), np.zeros((20, 30), np.uint8))
    boxes = [[1, 1, 5, 5], [25, 1, 50, 5]]
    content = {
        "images": [{"id": i, "file_name": name, "width": 30, "height": 20} for i, name in ((1, "a.png"), (2, "b.png"))],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "[bold]dog"}],
    }
    (folder / "val.json").write_text(json.dumps(content))


def test_data_check_tells_errors_from_warnings(lowwatt: Command, tmp_path: Path) -> None:
    write_coco(tmp_path)
    code, out, err = lowwatt("data", "check", tmp_path)
    assert code == 1 and "1 errors, 2 warnings" in err
    assert "[bold]dog" in out
    rows = json.loads(lowwatt("data", "check", tmp_path, "--json")[1])
    assert {(row["level"], row["kind"], row["where"]) for row in rows} == {
        ("error", "missing image", "b.png"),
        ("warning", "box outside the image", "a.png"),
        ("warning", "empty class", "[bold]dog"),
    }
