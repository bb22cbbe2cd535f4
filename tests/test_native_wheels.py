"""Wheels with kernels, for every kind of processor that has some."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

WHEELS = Path(__file__).parents[1] / "kernels" / "wheels.py"


def load():
    spec = importlib.util.spec_from_file_location("wheels", WHEELS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheels"] = module
    spec.loader.exec_module(module)
    return module


wheels = load()


@pytest.mark.wheels
@pytest.mark.parametrize("architecture", wheels.TARGETS)
def test_a_wheel_runs_on_old_systems_and_every_python(architecture, tmp_path):
    compiler = f"{wheels.TARGETS[architecture]}-g++"
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    for module in ("auditwheel", "build"):
        pytest.importorskip(module)
    wheel = wheels.build_wheel(architecture, tmp_path)  # which checks it
    assert f"{architecture}.whl" in wheel.name


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("effnet_edge-1-py3-none-any.whl", "isn't for every Python 3"),
        ("effnet_edge-1-cp311-cp311-manylinux_2_17_aarch64.whl", "isn't for every Python 3"),
        ("effnet_edge-1-py3-none-manylinux_2_17_x86_64.whl", "isn't for every Python 3"),
        ("effnet_edge-1-py3-none-linux_aarch64.whl", "isn't for every Python 3"),
        ("effnet_edge-1-py3-none-manylinux_2_36_aarch64.whl", "needs glibc"),
    ],
)
def test_a_wheel_that_would_not_run_everywhere_is_refused(name, error):
    with pytest.raises(ValueError, match=error):
        wheels.check_wheel(Path(name), "aarch64")
