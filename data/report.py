"""What a reader left out or mended, so that nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Skipped:
    """An image that was left out, and why."""

    image: str
    reason: str


@dataclass
class Report:
    """What a reader left out or mended.

    Attributes:
        skipped: images that were left out.
        counts: what else was noticed -> how often, such as "boxes clipped at the
            border".
        seen: rows that the reader parsed: boxes, or images where each is a crop.
        dropped: how many of them became no crop.
        written: crops of the class that an export holds.
    """

    skipped: list[Skipped] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    dropped: int = 0
    written: int = 0

    def skip(self, image: str, reason: str) -> None:
        """Notes an image that was left out."""
        self.skipped.append(Skipped(image, reason))

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a count; nothing where the number is 0."""
        if number:
            self.counts[what] += number

    def drop(self, what: str, number: int = 1) -> None:
        """Adds to a count of rows that become no crop."""
        self.count(f"{what}, left out", number)
        self.dropped += number

    def lines(self) -> list[str]:
        """The counts, one a line, most frequent first."""
        return [f"{number:,} {what}" for what, number in self.counts.most_common()]

    def left_out(self) -> list[str]:
        """The counts and then every skipped image with its reason."""
        return [
            *self.lines(),
            *(f"{item.image}: {item.reason}" for item in self.skipped),
        ]
