"""Installed packages are found without importing anything; broken engines say why."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import PackageNotFoundError, version

import pytest

from effnet_edge.device import installed_version
from effnet_edge.device.packages import engines, tried_engines
from effnet_edge.engines import ENGINES, NATIVE


@pytest.mark.parametrize("package", ["numpy", "pillow", "onnxruntime", "ai-edge-litert", "PyTest"])
def test_versions_agree_with_the_standard_library(package):
    assert installed_version(package) == version(package)


@pytest.mark.parametrize("package", ["no-such-package", "", "num", "numpy-1"])
def test_what_is_not_installed_has_no_version(package):
    assert installed_version(package) is None


def test_nothing_is_imported_for_a_version():
    code = (
        "import sys\nfrom effnet_edge.device import installed_version\n"
        "assert installed_version('onnxruntime') and installed_version('absent') is None\n"
        "assert 'importlib.metadata' not in sys.modules and 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "folder",
    [
        "Some_Package-1.2.3.dist-info",
        "some.package-1.2.3.egg-info",
        "some_package-1.2.3-py3.11.egg-info",
    ],
)
def test_names_are_compared_as_pip_does(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_version("some-package") == "1.2.3"


def test_metadata_that_names_its_version_only_inside_is_read(tmp_path, monkeypatch):
    (tmp_path / "thing.egg-info").mkdir()
    (tmp_path / "thing.egg-info" / "PKG-INFO").write_text("Name: thing\nVersion: 7.1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert installed_version("thing") == "7.1"


def test_packages_in_zip_files_are_found(tmp_path, monkeypatch):
    file = tmp_path / "bundle.zip"
    with zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr("zipped-2.0.dist-info/METADATA", "Name: zipped\nVersion: 2.0\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(file)])
    assert installed_version("zipped") == "2.0"


def test_every_engine_is_listed_with_its_version_or_how_to_get_it(monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_ISA", "portable")
    ours, *others = engines()
    assert ours.name == NATIVE and ours.version == version("effnet-edge")
    assert ours.error == "there are no kernels: switched off by EFFNET_EDGE_ISA=portable"
    for engine in others:
        try:
            assert engine.version == version(engine.package)
            assert engine.error is None
        except PackageNotFoundError:
            assert engine.version is None
            assert engine.error is not None and "pip install" in engine.error
    assert [engine.name for engine in engines()] == list(ENGINES)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "built for another processor"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("raise ImportError('libxyz.so: cannot open')", "libxyz.so: cannot open"),
        ("import sys; sys.exit(3)", "doesn't load: no reason given"),
    ],
)
def test_an_engine_that_kills_its_process_is_described(tmp_path, monkeypatch, body, reason):
    (tmp_path / "onnxruntime.py").write_text(textwrap.dedent(body))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tried = {engine.name: engine for engine in tried_engines()}
    assert reason in (tried["onnxruntime"].error or "")
