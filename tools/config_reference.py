"""Writes ``docs/configuration.md`` from the declarations of the configuration.

.venv/bin/python -m tools.config_reference
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.fields import Field, fields_of, sections_of

TARGET = Path(__file__).parents[1] / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration

Written by `.venv/bin/python -m tools.config_reference` from `p2p_sac_jax/config.py`;
edit that file, not this one. A preset or a file of your own sets fields, and the
command line changes them:

    .venv/bin/python -m launch.train --config=pricing --config.sac.tau=0.02

- **Traced** fields reach the compiled program as arrays and may differ between the runs
  of one program. All other fields are static: another value compiles another program.
- Ranges are intervals; a round bracket excludes the end.
- What has to fit together (`steps` is a multiple of `evaluate_every`, for example) is
  checked before a run starts. A setting that merely has no effect is accepted.
"""
_HEAD = """\
| field | type | default | allowed | traced | description |
|---|---|---|---|---|---|"""


def render(root: type = TrainConfig) -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_tables(root)])


def _tables(root: type) -> Iterator[str]:
    own = [field for field in fields_of(root) if "." not in field.name]
    yield _table("The run", root, own)
    for name, kind in sections_of(root).items():
        yield _table(f"`{name}`", kind, list(fields_of(kind, f"{name}.")))


def _table(title: str, kind: type, fields: list[Field]) -> str:
    summary = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
    rows = [f"## {title}", "", summary, "", _HEAD, *map(_row, fields)]
    return "\n".join([*rows, ""])


def _row(field: Field) -> str:
    names = [*field.choices(), *([field.form] if field.form else [])]
    allowed = ", ".join(f"`{name}`" for name in names) or field.allowed()
    mark = "yes" if field.traced else ""
    return (
        f"| `{field.name}` | {field.type.__name__} | `{field.default!r}` | {allowed}"
        f" | {mark} | {field.description} |"
    )


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
