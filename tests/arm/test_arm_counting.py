from __future__ import annotations

import blocks
import count
import lab
import pytest

pytestmark = pytest.mark.arm
ROUNDS = 1000
MARKERS = 60  # instructions of the system calls themselves, at most


@pytest.fixture(scope="module")
def known_loop(tmp_path_factory):
    """known_loop.cc, built."""
    program = tmp_path_factory.mktemp("known") / "known_loop"
    line = ["aarch64-linux-gnu-g++", "-O2", "-static", str(lab.HERE / "known_loop.cc")]
    answer = lab.run([*line, "-o", str(program)])
    assert not answer.returncode, answer.stderr
    return program


def counted(program, cpu="cortex-a76"):
    return count.count(lab.CPUS[cpu], count.command(lab.CPUS[cpu], [str(program)]))


def test_every_instruction_between_the_markers_is_counted_once(known_loop):
    cost = counted(known_loop).cost
    assert cost.classes["dot"] == ROUNDS
    assert cost.classes["other vector"] == 2 * ROUNDS
    assert ROUNDS <= cost.classes["load"] <= ROUNDS + MARKERS
    assert 6 * ROUNDS <= cost.instructions <= 6 * ROUNDS + MARKERS
    assert sum(cost.classes.values()) == cost.instructions


def test_counts_repeat_exactly(known_loop):
    assert counted(known_loop).cost == counted(known_loop).cost


def test_a_loop_takes_the_latency_of_its_chain(known_loop):
    """Two dependent fmul, of three cycles each by Arm's optimisation guide for the core."""
    assert 6 * ROUNDS <= counted(known_loop).cost.cycles <= 6.2 * ROUNDS + MARKERS


def test_functions_are_named(known_loop):
    cost = counted(known_loop)
    assert count.costliest(cost, 1).splitlines()[1].split()[-1] == "main"


def test_what_a_core_lacks_is_an_illegal_instruction(known_loop):
    """So a kernel that is dispatched wrongly can't pass a test here."""
    with pytest.raises(lab.LabError, match=r"Illegal instruction"):
        counted(known_loop, "cortex-a72")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sdot v0.4s, v1.16b, v2.4b[1]", "dot"),
        ("usmmla v0.4s, v1.16b, v2.16b", "mmla"),
        ("smlal2 v0.8h, v1.16b, v2.16b", "widening multiply"),
        ("sadalp v0.4s, v1.8h", "widening multiply"),
        ("tbl v0.16b, { v1.16b, v2.16b }, v3.16b", "other vector"),
        ("fmul s0, s1, s2", "other vector"),
        ("ldp q0, q1, [x0], #32", "load"),
        ("st1 { v0.16b }, [x0]", "store"),
        ("b.ne #-20", "branch"),
        ("cbz x0, #8", "branch"),
        ("bic x0, x1, x2", "scalar"),
        ("smull x0, w1, w2", "scalar"),
    ],
)
def test_classes(text, expected):
    assert blocks.instruction_class(text) == expected
