"""The translations of a run: one to all target domains, or one to each; where their fakes lie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labelferry.files import read_json, write_json
from labelferry.translate.verdict import AUDIT_FILE, fakes_left_out

FILE_NAME = "domains.json"
"""Names the folders of a run with one translator for each domain."""
SCHEMA = 1
_LONGEST = 40


@dataclass(frozen=True)
class Translation:
    """One pair of translators with all that it made, in a folder of its own."""

    folder: Path
    domain: str | None = None
    """The target domain that it learns; None: all of them."""

    @property
    def fake_id(self) -> str:
        """What follows a case's id in the id of its fake."""
        return "fake" if self.domain is None else f"fake.{self.folder.name}"

    @property
    def of_domain(self) -> str:
        """The domain as the start of a sentence: ``T1: ``; nothing where it is of all."""
        return "" if self.domain is None else f"{self.domain}: "

    def fake(self, case: str) -> Path:
        """The fake of a source case; whether it is there is for the caller to ask."""
        return self.folder / "fake" / f"{case}.nii.gz"

    def left_out(self) -> dict[str, str]:
        """Source cases whose fake may not teach, and why."""
        return fakes_left_out(self.folder / AUDIT_FILE)


def plan_translations(translate: Path, domains: Iterable[str]) -> tuple[Translation, ...]:
    """One translation for each domain: names a folder for each below that of the stage."""
    ordered = sorted(set(domains))
    # numbered: two names may differ in what a file name cannot hold, or in capitals alone
    names = {f"{n}-{_safe(domain)}".rstrip("-"): domain for n, domain in enumerate(ordered, 1)}
    write_json(translate / FILE_NAME, {"schema_version": SCHEMA, "domains": names})
    return find_translations(translate)


def find_translations(translate: Path) -> tuple[Translation, ...]:
    """Those that the stage has in its folder: the folder itself, or one below it a domain."""
    if not (translate / FILE_NAME).exists():
        return (Translation(translate),)
    names: dict[str, str] = read_json(translate / FILE_NAME, schema=SCHEMA)["domains"]
    return tuple(Translation(translate / name, domain) for name, domain in names.items())


def _safe(domain: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", domain).strip("-")[:_LONGEST]
