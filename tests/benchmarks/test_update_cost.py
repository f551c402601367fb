"""The counted cost of an update is that of the program that is timed."""

import math

import jax
import numpy as np
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from benchmarks import update_cost as cost
from benchmarks.sizes import sized_config


def products(jaxpr, times=1):
    """FLOP of every dot_general in a jaxpr, those of inner jaxprs included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            depth = math.prod(left[axis] for axis in contracted)
            total += 2 * times * depth * math.prod(equation.outvars[0].aval.shape)
        repeats = equation.params.get("length", 1)
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda leaf: hasattr(leaf, "jaxpr") or hasattr(leaf, "eqns"),
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products(inner, times * repeats)
    return total


@pytest.mark.parametrize("size", ["standard", "market"])
def test_counted_flop_are_the_products_of_the_update(size):
    config = sized_config(size, 1)
    update, arguments = cost.single_update(config)
    traced = jax.make_jaxpr(update)(*arguments).jaxpr
    # The trace has unused gradients, which no compiler keeps.
    needed, _ = dce_jaxpr(traced, [True] * len(traced.outvars))
    traced = products(needed)
    assert traced == pytest.approx(cost.update_cost(config).flop, rel=0.03)
    assert cost.compiler_flop(config) == pytest.approx(traced, rel=0.06)


def test_the_usual_size_is_the_one_others_are_compared_at():
    counted = cost.update_cost(sized_config("standard", 1))
    assert counted.flop == pytest.approx(545e6, rel=0.01)
    assert counted.bytes == pytest.approx(5.9e6, rel=0.01)


def test_a_hidden_layer_alone_is_multiplied_sixteen_times():
    alone = cost.Layers(actor=((5, 7), (7, 7)), critic=((5, 7), (7, 7)))
    wider = cost.Layers(actor=((5, 7), (7, 7), (7, 7)), critic=((5, 7), (7, 7), (7, 7)))
    added = cost.count(3, wider).flop - cost.count(3, alone).flop
    assert added == 16 * 2 * 3 * 7 * 7


def test_bytes_are_those_of_the_learner_s_state():
    config = sized_config("market", 1)
    _, (state, *_) = cost.single_update(config)
    kept = state.params, state.opt_state, state.target_params
    floats = [leaf.size for leaf in jax.tree.leaves(kept) if leaf.dtype == np.float32]
    assert cost.update_cost(config).bytes == 2 * 4 * sum(floats)
