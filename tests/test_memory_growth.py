"""Memory doesn't grow with use: however many predictions, batches and streams there were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_models import write_small_models

PAGES = Path("/proc/self/statm")

pytestmark = pytest.mark.skipif(not PAGES.exists(), reason="memory is read from /proc")

# A leak of one image, 9 kB, would be nine times this in each prediction, twice in each batch, and
# four times in each stream.
MOST_BYTES = 1 << 21
USES = 2000

PROGRAM = """
import gc, os, sys
from pathlib import Path
import numpy as np
from effnet_edge import EdgeClassifier

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
kept = []
with EdgeClassifier.load(sys.argv[1], threads=2) as classifier:
    def predict(count):
        for _ in range(count):
            classifier.predict(image)

    def leak(count):
        for _ in range(count):
            classifier.predict(image)
            kept.append(image.copy())

    def batches(count):
        for _ in range(count // 4):
            classifier.predict_batch((image for _ in range(4)), batch_size=3)

    def frames(count):
        for _ in classifier.stream((image for _ in range(count)), latest=False):
            pass

    def streams(count):
        for _ in range(count // 2):
            for frame in classifier.stream(image for _ in range(10)):
                break

    def leaking_streams(count):
        for _ in range(count // 2):
            streams(2)
            kept.append(image.copy())

    uses = (predict, leak, batches, frames, streams, leaking_streams)
    use = {each.__name__: each for each in uses}[sys.argv[2]]
    use(500)
    before = resident()
    use(int(sys.argv[3]))
    print(resident() - before)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_small_models(tmp_path_factory.mktemp("models"))


def growth(model: Path, use: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, model, use, str(USES)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.parametrize("use", ["predict", "batches", "frames", "streams"])
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_memory_stays_where_it_is(models, kind, use):
    assert growth(models[kind], use) < MOST_BYTES


@pytest.mark.parametrize("use", ["leak", "leaking_streams"])
def test_a_leak_of_an_image_each_time_would_be_seen(models, use):
    assert growth(models["onnx"], use) > 2 * MOST_BYTES
