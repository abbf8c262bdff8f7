"""Space: which words of each ring of banks the next map or the next weights get."""

from __future__ import annotations

from dataclasses import dataclass, field

from lowwatt.targets import Target


@dataclass(slots=True)
class Space:
    """Next free word of each ring: the image groups, weights, depthwise weights, bias.

    Every bank is a ring of words (docs/dpu.md 8.3). Where `runs_on`, each layer takes the words behind those of the
    layer before, so that it can be loaded while that one is still worked on; else each begins at word 0.
    """

    target: Target
    runs_on: bool
    next: dict[str, int] = field(default_factory=dict)

    def take(self, ring: str, words: int) -> int:
        """First of so many words of a ring.

        >>> from lowwatt.targets import load_target
        >>> space = Space(load_target("kv260"), runs_on=True)
        >>> space.take("weights", 2000), space.take("weights", 100), space.take("weights", 1)
        (0, 2000, 52)
        """
        start = self.next.get(ring, 0)
        self.next[ring] = (start + words) % self.target.bank_depth
        return start

    def begin_layer(self) -> None:
        """Start again at word 0, unless the rings run on."""
        if not self.runs_on:
            self.next.clear()
