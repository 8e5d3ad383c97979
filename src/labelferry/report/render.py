"""Fill a template: everything is escaped, and the page runs our script and no other."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from labelferry.report import words


def render(template: str, **values: Any) -> str:
    """A whole page: a template of ``web/`` with the style and the script that belong to it."""
    script = asset("page.js")
    environment = Environment(
        loader=PackageLoader("labelferry.report", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        percent=words.percent,
        span=words.span,
        p_value=words.p_value,
        sort_key=words.sort_key,
        duration=words.duration,
        memory=words.memory,
        ink_on=words.ink_on,
    )
    environment.globals.update(count_of=words.count)
    return environment.get_template(template).render(
        style=Markup(asset("page.css")),
        script=Markup(script),
        # the browser runs this very script and nothing else, whatever a name may hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        **values,
    )


def asset(name: str) -> str:
    """A text file of ``web/``."""
    return resources.files("labelferry.report").joinpath("web", name).read_text(encoding="utf-8")
