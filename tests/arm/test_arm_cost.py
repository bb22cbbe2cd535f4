"""What the kernels cost on a B0.

Counts are the same on every machine with the same compiler, so they have bounds.
"""

from __future__ import annotations

import count
import lab
import pytest

pytestmark = pytest.mark.arm

BOUNDS = {
    "cortex-a53": (113, 158),
    "cortex-a72": (113, 63),
    "cortex-a76": (54, 23),
    "i8mm": (56, 19),
}
"""Instructions and modelled cycles, in millions, of one inference of B0 by the kernels alone."""


@pytest.mark.parametrize("cpu", BOUNDS)
def test_b0_stays_within_its_bounds(cpu):
    cost = count.count(lab.CPUS[cpu], count.b0(lab.CPUS[cpu])).cost
    instructions, cycles = BOUNDS[cpu]
    assert cost.instructions <= instructions * 1_000_000
    assert cost.cycles <= cycles * 1_000_000


@pytest.mark.parametrize(
    ("cpu", "most_used"),
    [("cortex-a72", "widening multiply"), ("cortex-a76", "dot"), ("i8mm", "mmla")],
)
def test_the_multiplications_are_those_the_core_is_best_at(cpu, most_used):
    classes = count.count(lab.CPUS[cpu], count.b0(lab.CPUS[cpu])).cost.classes
    kinds = ("dot", "mmla", "widening multiply")
    assert max(kinds, key=lambda kind: classes[kind]) == most_used
