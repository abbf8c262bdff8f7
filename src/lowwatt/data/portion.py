"""Parts of a split: what every kind of labelled images can give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

S = TypeVar("S", bound="Portioned")


class Portioned:
    """A dataclass with `images`; what else runs along with these overrides `only_images`."""

    __slots__ = ()
    images: Any

    def __len__(self) -> int:
        return len(self.images)

    def first(self: S, count: int) -> S:
        """The same split with its first `count` images only."""
        return self.only_images(slice(count))

    def part(self: S, index: int, count: int) -> S:
        """Every `count`-th image, from the one at `index` on."""
        return self.only_images(slice(index, None, count))

    def only_images(self: S, part: slice) -> S:
        """Some of the images."""
        changed: S = replace(self, images=self.images[part])  # type: ignore[type-var]
        return changed
