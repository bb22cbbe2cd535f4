"""What quantization cost: per part and over all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from effnet_edge.fidelity import Fidelity


@dataclass(frozen=True)
class PartReport:
    """Signal to noise, in dB, of a part's output: ``stem``, ``blocks.3`` or ``head``.

    ``snr_db`` is that in the quantized network, with the noise of all parts before it;
    ``own_snr_db`` that of this part alone, quantized in a float network. Infinity is no noise.
    """

    name: str
    snr_db: float
    own_snr_db: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class QuantizationReport:
    """All parts, and the whole network on the calibration images.

    ``calibration`` is ``photos`` or ``synthetic``.
    """

    parts: tuple[PartReport, ...]
    fidelity: Fidelity
    images: int
    calibration: str
    settings: dict[str, str]
    labels: int = 0
    """How many different labels the float network gave the images; 0 where nobody counted."""

    def worst(self, count: int = 3) -> tuple[PartReport, ...]:
        """The parts that add most noise of their own, the worst first; NaN is worse than any.

        Parts without noise aren't among them.
        """
        noisy = [part for part in self.parts if part.own_snr_db != math.inf]
        return tuple(sorted(noisy, key=_badness)[: max(count, 0)])

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; numbers that JSON lacks, such as infinity, are None."""
        return {
            "fidelity": {
                "agreement": _finite(self.fidelity.agreement),
                "kl": _finite(self.fidelity.kl),
                "snr_db": _finite(self.fidelity.snr_db),
            },
            "images": self.images,
            "calibration": self.calibration,
            "settings": dict(self.settings),
            "worst": [part.name for part in self.worst()],
            "parts": [
                {
                    "name": part.name,
                    "snr_db": _finite(part.snr_db),
                    "own_snr_db": _finite(part.own_snr_db),
                    "notes": list(part.notes),
                }
                for part in self.parts
            ],
        }


def decibel_text(value: float) -> str:
    """A signal-to-noise ratio for people: ``31.4``, and ``exact`` for one without noise."""
    if value == math.inf:
        return "exact"
    return f"{value:.1f}" if not math.isnan(value) else "NaN"


def whole_model_text(report: QuantizationReport) -> str:
    """The whole model's figures, and what they were measured on, as one sentence."""
    fidelity = report.fidelity
    plural = "" if report.images == 1 else "s"
    images = {"photos": f"calibration photo{plural}", "synthetic": f"synthetic image{plural}"}
    return (
        f"top-1 agreement with float {fidelity.agreement:.1f} %, KL divergence "
        f"{fidelity.kl:.3g} nats, logit SNR {decibel_text(fidelity.snr_db)}"
        f"{' dB' if math.isfinite(fidelity.snr_db) else ''}, on {report.images} "
        f"{images.get(report.calibration, f'image{plural}')}"
    )


def _badness(part: PartReport) -> tuple[float, float]:
    return _ordered(part.own_snr_db), _ordered(part.snr_db)


def _ordered(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
