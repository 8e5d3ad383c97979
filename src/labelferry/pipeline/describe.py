"""The configuration in words: every section, every value, its unit and its place in the paper."""

from __future__ import annotations

from pydantic import BaseModel

from labelferry.pipeline.config import RunConfig

_HEAD = """# Configuration
Every value of a run, with what it is when neither a preset nor a size says otherwise (the paper's
numbers where it gives any). `labelferry adapt … --set teach.train.epochs=50` changes one value. A
size is read first, then a preset, then `--set`. This page is made by
`python -m labelferry.pipeline.describe`.
"""


def describe(model: type[BaseModel] = RunConfig, prefix: str = "") -> str:
    """Markdown: a table of the section's values, then its sub-sections."""
    rows, sections = [], []
    defaults = model()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner = describe(kind, f"{prefix}{name}.")
            sections.append(f"\n## {prefix}{name}\n{_flat(field.description)}\n\n{inner}")
        else:
            value = getattr(defaults, name)
            rows.append(f"| `{prefix}{name}` | `{value!r}` | {_flat(field.description)} |")
    table = "\n".join(["| value | default | what |", "|---|---|---|", *rows]) if rows else ""
    return f"{table}\n{''.join(sections)}"


def page() -> str:
    """The whole reference page."""
    return f"{_HEAD}\n{describe()}"


def _flat(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
