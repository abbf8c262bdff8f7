"""YAML as people write it in recipes, targets and overrides, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import yaml

from lowwatt.errors import ToolError


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice in one mapping is a mistake, not an overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; yaml.YAMLError where a key stands in it twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.YAMLError(
                    f"{key.value!r} stands twice in one section, again in line {key.start_mark.line + 1}"
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return dict(super().construct_mapping(node, deep))


def parse(text: str, what: str, where: str) -> Any:
    """Value of a YAML text; ToolError `what`, at `where`, for anything that is not one.

    >>> parse("train: {epochs: 3}", "cannot read the recipe", "a.yaml")
    {'train': {'epochs': 3}}
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ToolError(what, where=where, why=str(error)) from None
    except RecursionError:
        raise ToolError(what, where=where, why="it is nested too deeply") from None
