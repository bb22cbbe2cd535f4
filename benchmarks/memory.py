"""Does memory grow with use? Predict again and again, and watch the resident set.

    python benchmarks/memory.py                                  Lite0 of the store, each engine
    python benchmarks/memory.py --model FILE --predictions 1000000

Each engine gets a process of its own. Growth is counted from when a tenth of the predictions are
done, for allocators and thread pools settle first; a straight line fitted to the samples says how
much one prediction leaves behind. Exit status 1 if that is more than `MOST_BYTES`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SAMPLES = 200
MOST_BYTES = 8.0
"""A prediction: half of what the smallest object of Python takes, and enough for the ups and downs
of allocators among 100 000 predictions; among few it isn't."""


def resident_bytes() -> int:
    """The resident set of this process, from /proc."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def watch(model: str, engine: str, predictions: int) -> float:
    """Predict, print one line about it, and return the growth in bytes a prediction."""
    from effnet_edge import EdgeClassifier

    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    counts, sizes = [], []
    started = time.monotonic()
    with EdgeClassifier.load(model, engine=engine) as classifier:
        for count in range(1, predictions + 1):
            classifier.predict(frame)
            if count % max(1, predictions // SAMPLES) == 0 and count >= predictions // 10:
                counts.append(count)
                sizes.append(resident_bytes())
        name = classifier.metadata.name
    slope = float(np.polyfit(counts, sizes, 1)[0])
    print(
        f"{name} on {engine}: {predictions} predictions in {time.monotonic() - started:.0f} s, "
        f"{sizes[0] / 1e6:.1f} MB after {counts[0]}, {sizes[-1] / 1e6:.1f} MB at the end, "
        f"at most {max(sizes) / 1e6:.1f} MB: {slope:+.2f} bytes a prediction",
        flush=True,
    )
    return slope


def engines_for(model: str) -> list[str]:
    """The installed engines that run a file, or a stored model in any of its formats."""
    from effnet_edge.engines import available_engines
    from effnet_edge.model_file import model_format, read_metadata
    from effnet_edge.store import ModelStore

    path = Path(model)
    kinds = (
        {(model_format(path), read_metadata(path).precision)}
        if path.is_file()
        else {
            (stored.format, stored.metadata.precision)
            for stored in ModelStore().list()
            if stored.name == model and stored.metadata is not None
        }
    )
    engines = available_engines()
    return [engine.name for engine in engines if any(engine.runs(*kind) for kind in kinds)]


def main() -> None:
    """Run all engines, or with ``--engine`` one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="efficientnet-lite0-int8")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--engine")
    args = parser.parse_args()
    if args.engine:
        sys.exit(watch(args.model, args.engine, args.predictions) > MOST_BYTES)
    engines = engines_for(args.model)
    if not engines:
        sys.exit(f"no installed engine runs {args.model}, or there is no such model")
    runs = [
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--engine", engine], check=False)
        for engine in engines
    ]
    sys.exit(any(run.returncode for run in runs))


if __name__ == "__main__":
    main()
