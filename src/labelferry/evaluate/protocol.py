"""The protocols by name."""

from __future__ import annotations

from collections.abc import Mapping

from labelferry.errors import UserError
from labelferry.evaluate.flare24 import flare24
from labelferry.evaluate.scoring import Protocol
from labelferry.evaluate.strict import describe, on_grid_of, strict

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "describe",
    "find_protocol",
    "flare24",
    "on_grid_of",
    "strict",
]

PROTOCOLS: Mapping[str, Protocol] = {rules.name: rules for rules in (strict, flare24)}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name; another name is refused."""
    if name not in PROTOCOLS:
        raise UserError("unknown protocol", seen=name, allowed=", ".join(PROTOCOLS))
    return PROTOCOLS[name]
