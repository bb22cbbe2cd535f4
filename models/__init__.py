"""The EfficientNet family as data: scaling, stage tables, the network, its costs."""

from effnet_edge.models.architecture import Architecture, BlockSpec, architecture, phis
from effnet_edge.models.costs import Costs, costs
from effnet_edge.models.network import Network
from effnet_edge.models.scaling import Multipliers, compound_multipliers, scaled_stages

__all__ = [
    "Architecture",
    "BlockSpec",
    "Costs",
    "Multipliers",
    "Network",
    "architecture",
    "compound_multipliers",
    "costs",
    "phis",
    "scaled_stages",
]
