"""Several sources as one: a domain that is made of more than one corpus.

Mixes and metrics see one source; rows keep the name of their member in the column `member`, so that steps can tell
them apart (`only: {member: docs}`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from warmstart.data.cache import digest
from warmstart.data.sources import OnBadRow, Row, Source, raise_error


class Union(Source):
    """The rows of its members, one after another; `id` begins with the member's name."""

    type: Literal["union"] = "union"
    members: Annotated[list[Source], Field(min_length=1)] = Field(description="The sources, in the order of reading.")

    def rows(self, on_bad_row: OnBadRow = raise_error) -> Iterator[Row]:
        for name, member in zip(self._names(), self.members, strict=True):
            for row in member.rows(on_bad_row):
                yield {**row, "source": self.label or self.type, "id": f"{name}:{row['id']}", "member": name}

    def fingerprint(self) -> str:
        return digest("union", [[n, m.fingerprint()] for n, m in zip(self._names(), self.members, strict=True)])

    def _names(self) -> list[str]:
        """One name per member, each different: its label or type; the second of a name gets `-2`."""
        labels = [member.label or member.name for member in self.members]
        return [f"{n}-{labels[:i].count(n) + 1}" if n in labels[:i] else n for i, n in enumerate(labels)]
