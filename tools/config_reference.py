"""Writes ``docs/configuration.md`` from the configuration's own source.

python -m tools.config_reference
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

from p2p_sac_jax import config as config_module
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.validation import CHOICES, RANGES

TARGET = Path(__file__).parents[1] / "docs" / "configuration.md"
TRACED = "(traced) "

_INTRODUCTION = """\
# Configuration

Written by `python -m tools.config_reference` from `p2p_sac_jax/config.py`; edit
that file, not this one. Every field is set in a configuration file or on the
command line:

    python -m launch.train --config=configs/pricing.py --config.sac.tau=0.02

Fields marked † are traced: they reach the compiled program as arrays and may
differ by run. Every other field is static, and a change compiles a new program.
Ranges are intervals, a round bracket leaves its end out. What has to fit
together (for instance, `steps` is a multiple of `evaluate_every`) is told when a
run starts.
"""


def field_comments() -> dict[type, dict[str, str]]:
    """Comment behind each field of each configuration class, by class and name."""
    source = inspect.getsource(config_module)
    lines = source.splitlines()
    comments = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            comments[getattr(config_module, node.name)] = {
                ast.unparse(item.target): _comment(lines[item.end_lineno - 1])
                for item in node.body
                if isinstance(item, ast.AnnAssign) and item.end_lineno
            }
    return comments


def render() -> str:
    """The whole page."""
    comments = field_comments()
    root = TrainConfig()
    parts = [_INTRODUCTION, _table("TrainConfig", root, "", comments)]
    for field in dataclasses.fields(root):
        section = getattr(root, field.name)
        if dataclasses.is_dataclass(section):
            parts.append(_table(field.name, section, f"{field.name}.", comments))
    return "\n".join(parts)


def _comment(line: str) -> str:
    return line.partition("# ")[2].strip()


def _table(
    title: str, section: Any, prefix: str, comments: dict[type, dict[str, str]]
) -> str:
    kind = type(section)
    summary = (kind.__doc__ or "").splitlines()[0]
    rows = [
        f"## {title}",
        "",
        summary,
        "",
        "| field | type | default | allowed | meaning |",
        "|---|---|---|---|---|",
    ]
    for field in dataclasses.fields(kind):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            continue
        name = f"{prefix}{field.name}"
        comment = comments[kind][field.name]
        mark = " †" if comment.startswith(TRACED) else ""
        # The column "allowed" already lists the choices.
        choices = " | ".join(CHOICES.get(name, ()))
        meaning = comment.removeprefix(TRACED).removeprefix(choices).lstrip(": ")
        rows.append(
            f"| `{name}`{mark} | {type(value).__name__} | `{value!r}` "
            f"| {_allowed(name, value)} | {meaning} |"
        )
    return "\n".join([*rows, ""])


def _allowed(name: str, value: Any) -> str:
    if name in CHOICES:
        return ", ".join(f"`{choice}`" for choice in CHOICES[name])
    if name in RANGES:
        return RANGES[name]
    return "`True`, `False`" if isinstance(value, bool) else "text"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
