"""What cases are called on the page: a file name may hold a patient's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from labelferry.files import csv_text

NamesBy = Literal["numbered", "ids"]
CSV_COLUMNS = ("name", "case", "role", "domain")
_SHORTEST = 4
"""Shorter ids, and bare numbers, are not looked for in free text: they would be found in words."""


@dataclass(frozen=True)
class NamedCase:
    """A case before it is named."""

    case: str
    """Its id: what its file is called."""
    role: str
    """``target``, ``test`` or ``source``."""
    domain: str


@dataclass(frozen=True)
class CaseNames:
    """Case ids and what stands for them on the page.

    A target and a scored case of one id are one image, so they share a name; a CT of the same id is
    another image.
    """

    shown: Mapping[tuple[bool, str], str]
    """(is a source, id) → name."""
    cases: tuple[NamedCase, ...]

    @property
    def numbered(self) -> bool:
        """Whether anything stands on the page under another name than its own."""
        return any(name != case for (_, case), name in self.shown.items())

    def of(self, case: str, *, source: bool = False) -> str:
        """The name of a case; one that was never announced has none of its id in it."""
        return self.shown.get((source, case)) or self.shown.get((not source, case)) or "a case"

    def scrub(self, text: str) -> str:
        """``text`` with every case id in it replaced by the name."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self.of(found[0]), text)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        ids = {case for (_, case), name in self.shown.items() if name != case}
        wanted = [i for i in ids if len(i) >= _SHORTEST and not i.isdecimal()]
        if not wanted:
            return None
        # the longest first: p07_T1_b must not become 'case 7_b'
        return re.compile("|".join(map(re.escape, sorted(wanted, key=len, reverse=True))))

    def to_csv(self) -> str:
        """Which file is behind which name."""
        return csv_text(
            CSV_COLUMNS,
            (
                (self.of(c.case, source=c.role == "source"), c.case, c.role, c.domain)
                for c in self.cases
            ),
        )


def name_cases(cases: Sequence[NamedCase], how: NamesBy) -> CaseNames:
    """Name cases in the order given: by number (``case 001`` …), or as their files are called."""
    keys = list(dict.fromkeys((case.role == "source", case.case) for case in cases))
    if how == "ids":
        return CaseNames({key: key[1] for key in keys}, tuple(cases))
    digits = max(3, len(str(len(keys))))
    numbered = {key: f"case {number:0{digits}d}" for number, key in enumerate(keys, start=1)}
    return CaseNames(numbered, tuple(cases))
