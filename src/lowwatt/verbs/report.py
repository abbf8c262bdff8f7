"""report: write the page of a run again, or compare two runs."""

from __future__ import annotations

from pathlib import Path

from lowwatt.evaluate.report import Report, write_html


def rebuild(folder: Path, against: Path | None, out: Path | None) -> tuple[Report, Path]:
    """Page of the run in `folder` (or of a report.json); `against` adds a comparison. Returns report and page path."""
    report = Report.load(_json_path(folder))
    earlier = Report.load(_json_path(against)) if against is not None else None
    page = out or _json_path(folder).with_name("report.html")
    write_html(report, page, earlier)
    return report, page


def _json_path(path: Path) -> Path:
    return path if path.suffix == ".json" else path / "report.json"
