"""What all pages share: style, script, policy, the ways numbers are written; a page is a template that extends
`page_base.html.j2`.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lowwatt.evaluate.report import Picture, quantity, score_text

_FOLDER = Path(__file__).parent


def fill(template: str, **view: Any) -> str:
    """A page as text. Everything in `view` that is no Markup is escaped; the policy forbids every request and foreign
    script.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "quantity": quantity,
        "ap": score_text,
        "count": count,
        "signed": signed,
        "data_uri": _data_uri,
    }
    script = (_FOLDER / "report_script.js").read_text(encoding="utf-8")
    style = (_FOLDER / "report_style.css").read_text(encoding="utf-8")
    page = environment.get_template(template)
    return page.render(style=Markup(style), script=Markup(script), script_hash=_hash(script), **view)


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def count(value: float) -> str:
    """A count in the width of a table cell.

    >>> count(2_033_000_000), count(864), count(0)
    ('2.03 G', '864', '')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}" if value else ""


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign.

    >>> signed(-0.0121), signed(1.25, 1), signed(-0.0001)
    ('−0.012', '+1.2', '+0.000')
    """
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.mime};base64,{base64.b64encode(picture.data).decode()}"
