"""Benchmark sessions as if measured, drawn from a seed."""

from __future__ import annotations

import numpy as np

from effnet_edge.bench.results import Cell, Conditions, ModelFacts, Round, Session

TOP1 = {"standard": (77.69, 78.64, 80.61, 82.01, 83.38), "lite": (75.1, 76.7, 77.6)}
SIZES = {"standard": (1.0, 1.6, 2.3, 4.2, 9.5), "lite": (0.8, 1.2, 1.6)}


def facts(family="standard", phi=0, precision="int8", **changes) -> ModelFacts:
    prefix = "lite" if family == "lite" else "b"
    name = f"efficientnet-{prefix}{phi}-{precision}"
    values = {
        "name": name,
        "family": family,
        "phi": phi,
        "precision": precision,
        "resolution": (224, 224),
        "classes": 1000,
        "parameters": 5_288_548,
        "macs": int(SIZES[family][phi] * 4e8),
        "top1": TOP1[family][phi],
        "usual_top1": TOP1[family][phi],
        "weights": "torchvision",
        "file": f"{name}.onnx",
        "size": 5_000_000,
        "sha256": "ab" * 32,
        "faithful": True,
    }
    return ModelFacts(**{**values, **changes})


def a_round(rng, median, runs=150, noise=0.01, hot=0.0) -> Round:
    """A round around ``median`` ms; ``hot`` is how much slower it ends."""
    latencies = median * np.exp(np.abs(rng.normal(0, noise, runs)) + rng.normal(0, noise / 3, runs))
    latencies *= 1 + hot / (1 + np.exp(-np.linspace(-9, 6, runs)))
    latencies[rng.integers(0, runs, max(1, runs // 70))] *= rng.uniform(1.2, 1.6)
    started = np.concatenate([[0], np.cumsum(latencies[:-1])]) / 1e3
    end = float(started[-1])
    conditions = [
        Conditions(
            float(second),
            48 + 34 * (1 - np.exp(-second / 60)) * bool(hot),
            (int(2400 - 900 * hot * (second > 0.6 * end) * 3),),
        )
        for second in (-1.0, *np.arange(0, max(end, 1.0), 1.0), end + 0.1)
    ]
    latencies = tuple(round(float(value), 3) for value in latencies)
    return Round(
        runs=runs,
        min_ms=min(latencies),
        max_ms=max(latencies),
        mean_ms=round(sum(latencies) / runs, 3),
        latencies_ms=latencies,
        preprocessing_ms=tuple(round(1.1 + 0.01 * (i % 3), 3) for i in range(runs)),
        inference_ms=tuple(round(value - 1.2, 3) for value in latencies),
        started_s=tuple(round(float(value), 3) for value in started),
        load_ms=80.0,
        peak_bytes=40_000_000,
        warmup_runs=30,
        conditions=tuple(conditions),
        throttling=("frequency lowered by heat",) if hot else (),
    )


def a_cell(rng, median, model=None, engine="onnxruntime", threads=4, rounds=3, spread=0.004):
    model = model or facts()
    drawn = tuple(a_round(rng, median * np.exp(rng.normal(0, spread))) for _ in range(rounds))
    return Cell(model.name, engine, threads, model, drawn)


def a_session(cells, **changes) -> Session:
    values = {
        "tool": "effnet-edge 0.1.0",
        "started": "2026-11-20T10:00:00Z",
        "finished": "2026-11-20T10:20:00Z",
        "complete": True,
        "board": "Raspberry Pi 5 Model B Rev 1.0",
        "facts": {"cores": "4 \u00d7 Cortex-A76 at 2.4 GHz", "memory": "8.45 GB"},
        "device": {"architecture": "aarch64"},
        "environment": {"effnet-edge": "0.1.0", "onnxruntime": "1.31.1", "python": "3.11.2"},
        "settings": {"rounds": 3, "seconds": 2.0, "duration_s": None},
        "cells": tuple(cells),
    }
    return Session(**{**values, **changes})


def a_board(seed=0, speed=1.0, engines=("onnxruntime", "litert"), **changes) -> Session:
    """B0..B4 and Lite0..2 in two precisions on each engine, and two cells that failed."""
    rng = np.random.default_rng(seed)
    factor = {"onnxruntime": 1.5, "litert": 1.0, "tflite-runtime": 2.0}
    cells = [
        a_cell(
            rng,
            speed * factor[engine] * SIZES[family][phi] * (24 if precision == "int8" else 41),
            facts(family, phi, precision),
            engine,
            spread=0.005 + 0.06 * (seed % 5 == phi),
        )
        for family, phis in (("lite", range(3)), ("standard", range(5)))
        for phi in phis
        for precision in ("fp32", "int8")
        for engine in engines
    ]
    failed = facts("standard", 4, "fp16")
    cells.append(Cell(failed.name, "litert", 4, failed, (), "it takes more than 180 MB", "memory"))
    cells.append(Cell("flowers", "", None, None, (), "not in the store", "missing"))
    return a_session(cells, **changes)


def a_hot_board(seconds=120) -> Session:
    """A sustained session in which the device slows down, and one cell in which it doesn't."""
    rng = np.random.default_rng(5)
    hot = a_round(rng, 36.0, runs=int(seconds * 26), hot=0.25)
    cool = a_round(rng, 21.0, runs=int(seconds * 45))
    cells = [
        Cell("efficientnet-b1-int8", "litert", 4, facts("standard", 1), (hot,)),
        Cell("efficientnet-lite0-int8", "litert", 4, facts("lite", 0), (cool,)),
    ]
    settings = {"rounds": 1, "seconds": None, "duration_s": seconds}
    return a_session(cells, settings=settings)
