"""Declared fields: what is accepted, the traced part, the reference page."""

import dataclasses
import math

import numpy as np
import pytest

from p2p_sac_jax import config_io
from p2p_sac_jax.config import TrainConfig
from p2p_sac_jax.fields import choice, fields_of, resolve, static, switch, traced
from p2p_sac_jax.hyper import make_hyper
from p2p_sac_jax.validation import validate
from tests.helpers.configs import FIELDS, changed, refusal
from tools import config_reference

NUMBERS = sorted(name for name, field in FIELDS.items() if field.interval)
CHOICES = sorted(name for name, field in FIELDS.items() if field.names)


def test_every_field_is_declared():
    flat = dict(config_io.flatten(config_io.to_dict(TrainConfig())))
    assert flat == {name: field.default for name, field in FIELDS.items()}
    for field in FIELDS.values():
        assert type(field.default) is field.type, field.name
        assert len(field.description) > 8, field.name
        assert bool(field.interval) == (field.type in (int, float)), field.name
        field.check(field.default)
    free = [f.name for f in FIELDS.values() if f.type is str and not f.names]
    assert sorted(free) == ["arms", "exchange.matrix"]


@pytest.mark.parametrize("name", NUMBERS)
def test_range_ends_are_refused_or_accepted_as_written(name):
    field = FIELDS[name]
    low, high = (float(end) for end in field.interval[1:-1].split(","))
    assert field.interval[0] in "[("
    assert field.interval[-1] in "])"
    inside, outside = [], []
    for end, closed, step in (
        (low, field.interval[0] == "[", -1),
        (high, field.interval[-1] == "]", 1),
    ):
        if math.isfinite(end):
            (inside if closed else outside).append(end)
            outside.append(end + step)
    for value in inside:
        field.check(field.type(value))
    if field.type is float:
        outside += [math.nan, math.inf, -math.inf]
    for value in map(field.type, outside):
        message = refusal(validate, changed({name: value}))
        assert message == f"{name}={value!r} must be in {field.interval}"


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_judged_as_the_32_bits_that_compute_with_it(name):
    """1e39 is infinite and 1e-50 is zero in 32 bits, 2^31 overflows an integer."""
    field = FIELDS[name]
    low, high = (float(end) for end in field.interval[1:-1].split(","))
    values = [1e39] if field.type is float else [2**31]
    if field.type is float and field.interval.startswith("(0,"):
        values.append(1e-50)
    for value in values:
        if not low <= value <= high:
            continue
        message = refusal(validate, changed({name: value}))
        assert message == f"{name}={value!r} must be in {field.interval} in 32 bits"


@pytest.mark.parametrize("name", CHOICES)
def test_the_keys_of_a_registry_are_the_choices(name):
    field, wanted = FIELDS[name], []
    for part in field.names:
        wanted.extend(resolve(part) if ":" in part else [part])
    assert field.choices() == tuple(wanted)
    assert len(set(wanted)) == len(wanted) > 1
    for value in wanted:
        field.check(value)
    message = refusal(validate, changed({name: "wrong"}))
    assert message == f"{name}='wrong' must be one of {field.allowed()}"
    assert field.allowed().startswith(", ".join(wanted))


def test_a_name_added_to_a_registry_is_a_choice(monkeypatch):
    field = FIELDS["exchange.aggregator"]
    monkeypatch.setitem(resolve(field.names[0]), "midrange", None)
    validate(changed({"exchange.aggregator": "midrange"}))
    assert "midrange" in refusal(field.check, "wrong")
    assert "`midrange`" in config_reference.render()
    assert "midrange" in " ".join(field.summary())


def test_a_declaration_is_all_that_a_field_needs():
    @dataclasses.dataclass(frozen=True)
    class Section:
        """A section."""

        pace: float = traced(0.5, "(0, 1]", "how fast")
        kind: str = choice("a", ("a", "b"), "which one")
        on: bool = switch(False, "whether at all")

    @dataclasses.dataclass(frozen=True)
    class Root:
        """All of it."""

        size: int = static(3, "[1, inf)", "how many")
        section: Section = Section()

    Root.__annotations__["section"] = Section  # a name of this function alone
    Section.__annotations__.update(pace=float, kind=str, on=bool)
    assert [field.name for field in fields_of(Root)] == [
        "size",
        "section.pace",
        "section.kind",
        "section.on",
    ]
    page = config_reference.render(Root)
    row = "| `section.pace` | float | `0.5` | (0, 1] | yes | how fast |"
    assert row in page.splitlines()
    row = "| `section.kind` | str | `'a'` | `a`, `b` |  | which one |"
    assert row in page.splitlines()
    assert "| `size` | int | `3` | [1, inf) |  | how many |" in page.splitlines()
    assert "## `section`\n\nA section.\n" in page


def test_traced_fields_are_the_leaves_of_hyper():
    config = changed({"sac.tau": 0.25, "exploration.source": "fixed"})
    hyper = make_hyper(config)
    leaves = {
        f"{section}.{name}": leaf
        for section, part in hyper._asdict().items()
        for name, leaf in part._asdict().items()
    }
    assert set(leaves) == {name for name, field in FIELDS.items() if field.traced}
    assert all(leaf.shape == () for leaf in leaves.values())
    assert all(leaf.dtype == np.float32 for leaf in leaves.values())
    assert hyper.sac.tau == 0.25
    assert hyper.exploration.source == 2
    assert hyper.weights.recency == 1
    assert hyper.weights.performance_filter == 0


def test_reference_page_is_up_to_date():
    page = config_reference.TARGET.read_text(encoding="utf-8")
    hint = "run: python -m tools.config_reference"
    assert page == config_reference.render(), hint
