"""From nothing to the first label: `EdgeClassifier.auto`, remembered, beside the bare engine.

    python benchmarks/startup.py --store ~/ladder --model efficientnet-b0-int8

In fresh processes, in turn: a choice that is remembered, loading what it chose and labelling a
frame of 640 x 480; and importing the engine that was chosen, loading the same file with the same
threads and running it on an image of the right size. Both are timed from after ``import
effnet_edge``, which imports numpy and Pillow, and as whole processes. Prints medians and the median
of paired ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from effnet_edge.selection.asking import Question
from effnet_edge.selection.choose import choose

OURS = """
import sys, time
import numpy as np
import effnet_edge
from effnet_edge import EdgeClassifier
frame = np.zeros((480, 640, 3), np.uint8)
started = time.perf_counter()
classifier = EdgeClassifier.auto({budget}, models={model!r}, engine={engine!r})
classifier.predict(frame)
print(time.perf_counter() - started)
"""
ONNXRUNTIME = """
import sys, time
import numpy as np
import effnet_edge
from effnet_edge import EdgeClassifier
image = np.zeros((1, *{size}, 3), np.uint8)
started = time.perf_counter()
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
session.run(["logits"], {{"image": image}})
print(time.perf_counter() - started)
"""
LITERT = """
import sys, time
import numpy as np
import effnet_edge
from effnet_edge import EdgeClassifier
image = np.zeros((1, *{size}, 3), np.uint8)
started = time.perf_counter()
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter({path!r}, num_threads={threads})
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
print(time.perf_counter() - started)
"""
BARE = {"onnxruntime": ONNXRUNTIME, "litert": LITERT}


def run(script: str) -> tuple[float, float]:
    """Seconds that the script says it took, and that its process took."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return float(done.stdout), time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True, help="the store's home folder")
    parser.add_argument("--model", default="efficientnet-b0-int8")
    parser.add_argument("--budget-ms", type=float, default=1000)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as home:
        Path(home, "models").symlink_to((args.store / "models").absolute())
        os.environ["EFFNET_EDGE_HOME"] = home
        for engine, bare in BARE.items():
            row = choose(Question(args.budget_ms, models=args.model, engine=engine)).chosen
            assert row is not None
            from effnet_edge.model_file import read_metadata

            size = read_metadata(row.path).recipe.resolution
            ours = OURS.format(budget=args.budget_ms, model=args.model, engine=engine)
            theirs = bare.format(path=str(row.path), threads=row.threads, size=size)
            run(ours), run(theirs)
            pairs = [(run(ours), run(theirs)) for _ in range(args.runs)]
            results[engine] = {}
            for index, what in enumerate(("from import to label", "whole process")):
                mine = [pair[0][index] * 1e3 for pair in pairs]
                bare_ms = [pair[1][index] * 1e3 for pair in pairs]
                ratio = statistics.median(a / b for a, b in zip(mine, bare_ms, strict=True))
                results[engine][what] = {
                    "auto_ms": round(statistics.median(mine), 1),
                    "bare_ms": round(statistics.median(bare_ms), 1),
                    "ratio": round(ratio, 3),
                }
                print(f"{engine:12} {what:22} {results[engine][what]}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
