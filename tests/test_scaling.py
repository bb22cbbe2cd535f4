"""Compound scaling and the released family against what was published."""

from __future__ import annotations

import pytest

from effnet_edge.models import architecture, compound_multipliers, costs, scaled_stages
from effnet_edge.models.architecture import round_channels, round_repeats

# torchvision 0.28, EfficientNet_BX_Weights.meta: num_params, and _ops in units of 10^9.
TORCHVISION = {
    0: (5_288_548, 0.386, 224),
    1: (7_794_184, 0.687, 240),
    2: (9_109_994, 1.088, 288),
    3: (12_233_232, 1.827, 300),
    4: (19_341_616, 4.394, 380),
    5: (30_389_784, 10.266, 456),
    6: (43_040_704, 19.068, 528),
    7: (66_347_960, 37.746, 600),
}
# Tan & Le 2019, Table 2, in units of 10^9.
PAPER_MACS = {0: 0.39, 1: 0.70, 2: 1.0, 3: 1.8, 4: 4.2, 5: 9.9, 6: 19.0, 7: 37.0}
# Lite0..4: README of tensorflow/tpu/models/official/efficientnet/lite, in units of 10^6.
LITE = {0: (4.7, 407), 1: (5.4, 631), 2: (6.1, 899), 3: (8.2, 1440), 4: (13.0, 2640)}


@pytest.mark.parametrize("phi", range(8))
def test_parameters_and_macs_are_those_that_torchvision_publishes(phi):
    parameters, giga_macs, resolution = TORCHVISION[phi]
    cost = costs(architecture(phi), (resolution, resolution))
    assert cost.parameters == parameters
    assert round(cost.macs / 1e9, 3) == giga_macs


@pytest.mark.parametrize("phi", range(8))
def test_macs_at_the_released_resolution_agree_with_the_paper(phi):
    assert costs(architecture(phi)).macs / 1e9 == pytest.approx(PAPER_MACS[phi], rel=0.05)


@pytest.mark.parametrize("phi", range(5))
def test_lite_agrees_with_its_publication(phi):
    parameters, mega_macs = LITE[phi]
    cost = costs(architecture(phi, "lite"))
    assert round(cost.parameters / 1e6, 1) == parameters
    assert cost.macs / 1e6 == pytest.approx(mega_macs, rel=0.07)


def test_the_worked_example_of_the_article():
    multipliers = compound_multipliers(7, alpha=1.2, beta=1.1, gamma=1.1)
    assert round(multipliers.depth, 2) == 3.58
    assert round(multipliers.width, 2) == round(multipliers.resolution, 2) == 1.95
    stage = scaled_stages(multipliers)[3]
    assert stage.stage == 4
    assert (round(stage.resolution), round(stage.channels), round(stage.layers)) == (109, 78, 7)


def test_phi_zero_is_b0_whatever_the_coefficients():
    stages = scaled_stages(compound_multipliers(0, 3.0, 5.0, 7.0))
    b0 = costs(architecture(0)).stages
    assert [(s.built_resolution, s.built_channels, s.built_layers) for s in stages] == [
        (s.resolution[0], s.channels, s.layers) for s in b0
    ]


def test_the_papers_coefficients_double_the_cost_at_each_phi():
    for phi in (1, 2.5, 6):
        assert compound_multipliers(phi).cost == pytest.approx(2**phi, rel=0.06 * phi)


def test_negative_phi_shrinks_the_network():
    smaller = compound_multipliers(-1)
    assert smaller.depth < 1 and smaller.width < 1 and smaller.resolution < 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"phi": float("nan")},
        {"phi": float("inf")},
        {"phi": 1, "alpha": 0.0},
        {"phi": 1, "beta": -1.1},
        {"phi": 1, "gamma": float("nan")},
        {"phi": 1e6},
    ],
)
def test_coefficients_without_meaning_are_refused(arguments):
    with pytest.raises(ValueError, match=r"phi|alpha|beta|gamma"):
        compound_multipliers(**arguments)


def test_a_scale_that_nothing_could_hold_is_refused():
    with pytest.raises(ValueError, match="could be built"):
        scaled_stages(compound_multipliers(100))


def test_channels_round_to_eights_and_never_lose_a_tenth():
    for channels in range(1, 2000):
        rounded = round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert abs(rounded - channels) <= 8
    assert round_channels(32 * 1.1) == 32
    assert round_channels(24 * 1.4) == 32
    assert round_channels(1280 * 1.1) == 1408


def test_repeats_round_up_but_not_for_a_last_bit():
    assert round_repeats(3 * 1.1) == 4
    assert round_repeats(2 * 1.4) == 3
    assert round_repeats(1.1 + 2.2 - 0.3) == 3


def test_peak_activations_of_b0_are_its_first_expansion():
    # Block 2.0 turns 16 channels of 112 x 112 into 96 and then filters them to 56 x 56.
    assert costs(architecture(0)).peak_activations == 96 * 112**2 + 96 * 56**2


def test_a_phi_outside_the_family_names_the_family():
    with pytest.raises(ValueError, match=r"EfficientNet-Lite0 to EfficientNet-Lite4"):
        architecture(5, "lite")
