"""Padding of the two conventions against their definitions, window by window."""

from __future__ import annotations

import pytest

from effnet_edge.models.geometry import output_size, padding_before_after


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15, 112, 113, 300])
def test_symmetric_reads_what_torch_reads(size, kernel, stride):
    before, after = padding_before_after("symmetric", size, kernel, stride)
    torch_padding = kernel // 2
    outputs = (size + 2 * torch_padding - kernel) // stride + 1
    assert output_size(size, stride) == outputs
    assert before == torch_padding
    last_read = (outputs - 1) * stride - torch_padding + kernel - 1
    assert after == max(0, last_read - (size - 1)) <= torch_padding


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15, 112, 113, 300])
def test_same_pads_as_little_as_it_can_and_the_odd_one_after(size, kernel, stride):
    before, after = padding_before_after("same", size, kernel, stride)
    assert after - before in (0, 1)
    assert (size + before + after - kernel) // stride + 1 == output_size(size, stride)
    if before + after:
        assert (size + before + after - 1 - kernel) // stride + 1 < output_size(size, stride)


def test_the_conventions_differ_where_even_sizes_meet_stride_two():
    assert padding_before_after("same", 224, 3, 2) == (0, 1)
    assert padding_before_after("symmetric", 224, 3, 2) == (1, 0)
    assert padding_before_after("same", 225, 3, 2) == padding_before_after("symmetric", 225, 3, 2)
