"""Fixtures that several files share: the real Lite0 weights, converted once, and real photos."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from device_trees import TREES, Recorded, build

from effnet_edge.store import ModelStore

LITE0 = "efficientnet-lite0-fp32"


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background jobs ignore SIGINT, and so do their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _home_of_no_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a test loads may leave its optimised form in the default home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFNET_EDGE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def lite0_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store's home with Lite0 in it, made from the real weights. Don't write to it."""
    from effnet_edge.converters.convert import convert, plan

    home = tmp_path_factory.mktemp("lite0")
    (job,) = plan("lite", [0])
    convert(job, ModelStore(home))
    return home


@pytest.fixture
def lite0_store(lite0_home: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """The store with Lite0, made the default one."""
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(lite0_home))
    return ModelStore()


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A default store's home that doesn't exist yet."""
    home = tmp_path / "home"
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def photos() -> list[tuple[Path, int]]:
    """Foolbox's 20 ImageNet photos with their class ids."""
    spec = find_spec("foolbox")
    assert spec is not None and spec.origin is not None
    files = sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
    assert len(files) == 20
    return [(file, int(file.stem.rsplit("_", 1)[1])) for file in files]


@pytest.fixture
def device_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Build a recorded device by name, with some files changed; None takes a file away."""

    def build_named(name: str, **changes: str | None) -> Path:
        recorded = TREES[name]()
        files = {**recorded.files, **changes}
        kept = {path: text for path, text in files.items() if text is not None}
        root = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        return build(Recorded(kept, recorded.unreadable), root, monkeypatch)

    return build_named
