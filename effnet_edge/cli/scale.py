"""``effnet-edge scale``: what compound scaling makes of B0."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import Any

from effnet_edge.cli.arguments import phi_list
from effnet_edge.cli.output import image_size, mac_count, megabytes, millions, print_json, table
from effnet_edge.errors import UsageError
from effnet_edge.models.architecture import Architecture, Family, architecture, phis
from effnet_edge.models.costs import Costs, StageCost, costs
from effnet_edge.models.scaling import (
    PAPER_ALPHA,
    PAPER_BETA,
    PAPER_GAMMA,
    Multipliers,
    ScaledStage,
    compound_multipliers,
    scaled_stages,
)

_DESCRIPTION = """\
Show the family, or scale B0 by the formula.

  effnet-edge scale --phi 0-7           the released B0..B7
  effnet-edge scale --phi 0-4 --lite    the released Lite0..4
  effnet-edge scale --phi 7 --alpha 1.2 --beta 1.1 --gamma 1.1
                                        depth 1.2^7, width 1.1^7, resolution 1.1^7
  effnet-edge scale --phi 2.5           any real phi, with the paper's coefficients (also 8, or
                                        --phi=-1 for something smaller than B0)

The trained networks follow a released table, which the formula only approximates.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "scale",
        help="show the family's depth, width, resolution and cost",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--phi", default=None, help="one (2), a list (0,2,4) or a range (0-7); default: all"
    )
    parser.add_argument("--lite", action="store_true", help="the Lite family instead of B0..B7")
    formula = parser.add_argument_group("the formula instead of the released table")
    formula.add_argument("--alpha", type=float, help=f"depth per phi (paper: {PAPER_ALPHA})")
    formula.add_argument("--beta", type=float, help=f"width per phi (paper: {PAPER_BETA})")
    formula.add_argument("--gamma", type=float, help=f"resolution per phi (paper: {PAPER_GAMMA})")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the released family, or one formula-scaled network."""
    family: Family = "lite" if args.lite else "standard"
    phi = _real_phi(args.phi)
    released = phi is None or (phi.is_integer() and int(phi) in phis(family))
    coefficients_given = any(value is not None for value in (args.alpha, args.beta, args.gamma))
    if coefficients_given and phi is None:
        raise UsageError("the formula scales to one phi: give it, as in --phi 7 --gamma 1.1")
    if coefficients_given and args.lite:
        raise UsageError("the formula scales B0; --lite shows the released Lite family")
    if phi is not None and not args.lite and (coefficients_given or not released):
        _show_formula(args, phi)
        return 0
    try:
        chosen = tuple(phis(family)) if args.phi is None else phi_list(args.phi)
        family_members = [architecture(phi, family) for phi in chosen]
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise UsageError(f"--phi: {error}") from None
    _show_released(family_members, as_json=args.json)
    return 0


def _real_phi(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _show_formula(args: argparse.Namespace, phi: float) -> None:
    alpha = PAPER_ALPHA if args.alpha is None else args.alpha
    beta = PAPER_BETA if args.beta is None else args.beta
    gamma = PAPER_GAMMA if args.gamma is None else args.gamma
    try:
        multipliers = compound_multipliers(phi, alpha, beta, gamma)
        stages = scaled_stages(multipliers)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if args.json:
        print_json(
            {
                "phi": phi,
                "alpha": alpha,
                "beta": beta,
                "gamma": gamma,
                "multipliers": {**asdict(multipliers), "cost": multipliers.cost},
                "stages": [asdict(stage) for stage in stages],
            }
        )
        return
    print(f"phi = {phi:g}, alpha = {alpha:g}, beta = {beta:g}, gamma = {gamma:g}")
    print(_multiplier_lines(multipliers, phi, alpha, beta, gamma))
    print()
    print(
        table(
            ("stage", "operator", "resolution", "channels", "layers", "built as"),
            [_formula_row(stage) for stage in stages],
        )
    )
    print()
    print("Resolution is each stage's input, as in the paper's Table 1. Resolution, channels and")
    print("layers are the products before rounding to what can be built, to the nearest whole;")
    print("'built as' has channels in multiples of 8 and layers rounded up.")


def _multiplier_lines(
    multipliers: Multipliers, phi: float, alpha: float, beta: float, gamma: float
) -> str:
    step = alpha * beta**2 * gamma**2
    return "\n".join(
        (
            f"  depth       d = {alpha:g}^{phi:g} = {multipliers.depth:.2f}",
            f"  width       w = {beta:g}^{phi:g} = {multipliers.width:.2f}",
            f"  resolution  r = {gamma:g}^{phi:g} = {multipliers.resolution:.2f}",
            f"  cost        d * w^2 * r^2 = {multipliers.cost:.4g} times B0's MACs"
            f" (alpha * beta^2 * gamma^2 = {step:.3g} per step of phi)",
        )
    )


def _formula_row(stage: ScaledStage) -> tuple[str, ...]:
    side = max(1, _nearest(stage.resolution))
    built = stage.built_resolution
    return (
        str(stage.stage),
        stage.operator,
        f"{side} x {side}",
        str(_nearest(stage.channels)),
        str(_nearest(stage.layers)),
        f"{built} x {built}, {stage.built_channels} channels, {_layers(stage.built_layers)}",
    )


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


def _layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"


def _show_released(members: list[Architecture], *, as_json: bool) -> None:
    rows = [(arch, costs(arch)) for arch in members]
    if as_json:
        print_json([_released_json(arch, cost) for arch, cost in rows])
        return
    print(
        table(
            ("model", "depth", "width", "resolution", "input", "parameters", "MACs", "peak memory"),
            [
                (
                    arch.title,
                    f"x{arch.depth:g}",
                    f"x{arch.width:g}",
                    f"x{arch.resolution / 224:.2f}",
                    image_size((arch.resolution, arch.resolution)),
                    millions(cost.parameters),
                    mac_count(cost.macs),
                    f"{megabytes(cost.peak_activation_bytes(4))} fp32, "
                    f"{megabytes(cost.peak_activation_bytes(1))} int8",
                )
                for arch, cost in rows
            ],
        )
    )
    print("\nPeak memory: the most activations alive at once when operators run one by one.")
    if len(rows) == 1:
        print()
        print(_stage_table(rows[0][1]))
        return
    header = ("stage", "operator", *(arch.title.partition("-")[2] for arch, _ in rows))
    same_stages = list(zip(*(cost.stages for _, cost in rows), strict=True))
    for title, field in (
        ("Input resolution of each stage, square", "resolution"),
        ("Channels", "channels"),
        ("Layers", "layers"),
    ):
        print(f"\n{title}")
        print(table(header, [_family_row(stages, field) for stages in same_stages]))


def _family_row(stages: tuple[StageCost, ...], field: str) -> tuple[str, ...]:
    values = (getattr(stage, field) for stage in stages)
    sides = (value[0] if isinstance(value, tuple) else value for value in values)
    return (str(stages[0].stage), stages[0].operator, *map(str, sides))


def _stage_table(cost: Costs) -> str:
    return table(
        ("stage", "operator", "resolution", "channels", "layers", "parameters", "MACs"),
        [
            (
                str(stage.stage),
                stage.operator,
                image_size(stage.resolution),
                str(stage.channels),
                str(stage.layers),
                millions(stage.parameters),
                mac_count(stage.macs),
            )
            for stage in cost.stages
        ],
    )


def _released_json(arch: Architecture, cost: Costs) -> dict[str, Any]:
    return {
        "name": arch.name,
        "phi": arch.phi,
        "family": arch.family,
        "depth": arch.depth,
        "width": arch.width,
        "resolution": arch.resolution,
        "resolution_multiplier": arch.resolution / 224,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "peak_activation_bytes": {
            "fp32": cost.peak_activation_bytes(4),
            "int8": cost.peak_activation_bytes(1),
        },
        "stages": [asdict(stage) for stage in cost.stages],
    }
