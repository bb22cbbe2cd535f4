"""Every kernel on every core that may run it, and none on one that may not.

QEMU refuses what a core lacks: a kernel in the wrong place ends in an illegal instruction.
"""

from __future__ import annotations

import cross
import lab
import pytest

pytestmark = pytest.mark.arm
CASES = 300
VECTORS = {
    "cortex-a53": ["neon"],
    "cortex-a72": ["neon"],
    "cortex-a76": ["neon-dotprod", "neon"],
    "i8mm": ["neon-i8mm", "neon-dotprod", "neon"],
    "cortex-a7": ["neon"],
    "cortex-a15": ["neon"],
}
"""What each core has beside the scalar kernels, the best first."""


def fuzz(cpu, *arguments):
    program = cross.kernel_fuzz(lab.CPUS[cpu].architecture)
    return lab.run(lab.command(lab.CPUS[cpu], [program, "--cases", str(CASES), *arguments]))


@pytest.mark.parametrize("cpu", VECTORS)
def test_kernels_agree_with_the_scalar_reference(cpu):
    answer = fuzz(cpu)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    tested = [line.partition(":")[0] for line in answer.stdout.splitlines()]
    assert [name for name in tested if not name.startswith("scalar")] == VECTORS[cpu]


@pytest.mark.parametrize(
    ("cpu", "isa"), [("cortex-a72", "neon-dotprod"), ("cortex-a76", "neon-i8mm")]
)
def test_what_a_core_lacks_can_not_be_asked_for(cpu, isa):
    answer = fuzz(cpu, "--isa", isa)
    assert answer.returncode == 2
    assert isa in answer.stdout
