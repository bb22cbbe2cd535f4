"""What ``effnet-edge evaluate`` prints: a few lines for people, everything as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effnet_edge.classifier import EdgeClassifier
from effnet_edge.cli.output import table
from effnet_edge.evaluation import Choice, Difference, Evaluation, wilson_interval

_SHOWN_DIFFERENCES = 20


@dataclass(frozen=True)
class Report:
    """An evaluation and what was evaluated: ``wanted`` of the ``found`` images were to be."""

    data: Path
    model: EdgeClassifier
    reference: EdgeClassifier | None
    labelled: bool
    found: int
    wanted: int
    seconds: float
    evaluation: Evaluation

    @property
    def complete(self) -> bool:
        """Whether it went through to the end."""
        return self.wanted == self.evaluation.images + len(self.evaluation.unreadable)

    @property
    def differences(self) -> list[Difference]:
        """Where the two models differ, by path."""
        return sorted(self.evaluation.differences, key=lambda difference: difference.path)


def report_json(report: Report) -> dict[str, Any]:
    """The report as plain data; numbers that JSON lacks, such as infinity, are null."""
    evaluation = report.evaluation
    data: dict[str, Any] = {
        "data": str(report.data),
        "found": report.found,
        "images": evaluation.images,
        "unreadable": [
            {"image": str(path), "error": error} for path, error in evaluation.unreadable
        ],
        "complete": report.complete,
        "seconds": round(report.seconds, 3),
        "model": _model_json(report, report.model, evaluation.hits),
    }
    if report.reference is None:
        return data
    fidelity = evaluation.fidelity()
    data["against"] = _model_json(report, report.reference, evaluation.reference_hits)
    data["fidelity"] = {
        "agreement": fidelity.agreement,
        "kl": fidelity.kl,
        "snr_db": fidelity.snr_db if math.isfinite(fidelity.snr_db) else None,
    }
    if report.labelled:
        data["lost"] = {str(k): count for k, count in evaluation.lost.items()}
        data["gained"] = {str(k): count for k, count in evaluation.gained.items()}
    data["differences"] = [
        {
            "image": str(each.path),
            "class": None if each.label is None else _class_json(report, each.label),
            "model": _choice_json(report, each.model),
            "against": _choice_json(report, each.reference),
        }
        for each in report.differences
    ]
    return data


def print_report(report: Report) -> None:
    """Print the report for people."""
    evaluation = report.evaluation
    rate = evaluation.images / max(report.seconds, 1e-9)
    sample = f" (a sample of {report.found})" if report.wanted < report.found else ""
    print(f"{evaluation.images} images of {report.data}{sample}, {rate:.1f} a second")
    if evaluation.unreadable:
        print(f"{len(evaluation.unreadable)} more couldn't be read and count nowhere")
    if not report.complete:
        print(f"stopped early: these are a fair sample of the {report.wanted} images")
    print()
    rows = [_model_row(report, report.model, evaluation.hits)]
    if report.reference is not None:
        rows.append(_model_row(report, report.reference, evaluation.reference_hits))
    tops = [f"top-{k} (95 % interval)" for k in evaluation.hits] if report.labelled else []
    print(table(("model", "engine", *tops), rows))
    if report.reference is not None:
        _print_comparison(report)


def _print_comparison(report: Report) -> None:
    evaluation, fidelity = report.evaluation, report.evaluation.fidelity()
    agreeing = evaluation.images - len(evaluation.differences)
    print(f"\nagreement of top-1  {fidelity.agreement:.2f} %  ({agreeing} of {evaluation.images})")
    print(f"KL divergence       {fidelity.kl:.3g} nats")
    print(
        f"logit SNR           {fidelity.snr_db:.1f} dB"
        if math.isfinite(fidelity.snr_db)
        else "logits              identical"
    )
    if report.labelled:
        for k in evaluation.hits:
            print(f"{f'top-{k} hits':18}  {evaluation.lost[k]} lost, {evaluation.gained[k]} gained")
    if not evaluation.differences:
        return
    count = len(evaluation.differences)
    print(f"\nThe two differ on {count} image{'s' if count > 1 else ''}:\n")
    shown = report.differences[:_SHOWN_DIFFERENCES]
    truth = ("class",) if report.labelled else ()
    print(
        table(
            ("image", "model", "against", *truth),
            [_difference_row(report, difference) for difference in shown],
        )
    )
    if count > len(shown):
        print(f"... and {count - len(shown)} more, all in --json")


def _difference_row(report: Report, difference: Difference) -> list[str]:
    path = difference.path.relative_to(report.data)
    row = [str(path), _shown(report, difference.model), _shown(report, difference.reference)]
    if difference.label is not None:
        row.append(report.model.labels[difference.label])
    return row


def _shown(report: Report, choice: Choice) -> str:
    return f"{report.model.labels[choice.index]} {choice.probability:.1%}"


def _model_row(report: Report, model: EdgeClassifier, hits: dict[int, int]) -> Sequence[str]:
    images = report.evaluation.images
    cells = []
    for count in hits.values() if report.labelled else ():
        low, high = wilson_interval(count, images)
        cells.append(f"{100 * count / images:.2f} % ({100 * low:.2f} to {100 * high:.2f})")
    return (model.metadata.name, model.engine, *cells)


def _model_json(report: Report, model: EdgeClassifier, hits: dict[int, int]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": model.metadata.name,
        "file": str(model.path),
        "engine": model.engine,
        "threads": model.threads,
    }
    if report.labelled:
        images = report.evaluation.images
        data["top"] = {
            str(k): {
                "hits": count,
                "percent": 100 * count / images,
                "interval_95": [100 * bound for bound in wilson_interval(count, images)],
            }
            for k, count in hits.items()
        }
    return data


def _choice_json(report: Report, choice: Choice) -> dict[str, Any]:
    return {**_class_json(report, choice.index), "probability": choice.probability}


def _class_json(report: Report, index: int) -> dict[str, Any]:
    return {"index": index, "label": report.model.labels[index]}
