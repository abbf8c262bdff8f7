"""A graph's meta inside an ONNX file: one entry of the model's metadata each, as JSON, under `lowwatt.`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

_PREFIX = "lowwatt."
_OURS = ("preprocess", "head", "classifier", "segmenter", "labels", "category_ids")


def write_meta(meta: Mapping[str, Any]) -> dict[str, str]:
    """Metadata entries of what users of a model need: labels, category ids, pre-processing, head.

    >>> write_meta({"labels": ["cat"], "xmodel": {}})
    {'lowwatt.labels': '["cat"]'}
    """
    return {_PREFIX + key: json.dumps(meta[key]) for key in _OURS if key in meta}


def read_meta(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The other way; entries of other tools, and damaged ones, are left alone.

    >>> read_meta({"lowwatt.labels": '["cat"]', "author": "x"})
    {'labels': ['cat']}
    """
    found = {}
    for key in _OURS:
        if _PREFIX + key in metadata:
            with contextlib.suppress(ValueError):
                found[key] = json.loads(metadata[_PREFIX + key])
    return found
