"""`EdgeClassifier`: from a name or a file, and an image, to labels."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import CLASSES, NAME, RESOLUTION, write_small_models

import effnet_edge
from effnet_edge import EdgeClassifier, Prediction, engines, seal
from effnet_edge.errors import (
    EngineError,
    ImageError,
    ModelError,
    ModelNotFoundError,
    UsageError,
)
from effnet_edge.preprocessing import preprocess
from effnet_edge.recipe import Recipe

PHOTO = networks.photos(1, (90, 120))[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_small_models(tmp_path_factory.mktemp("home") / "models")


@pytest.fixture
def store(models, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(models["onnx"].parent.parent))


@pytest.fixture(params=["onnx", "tflite"])
def classifier(request, models):
    with EdgeClassifier.load(models[request.param]) as classifier:
        yield classifier


# Loading


def test_a_file_is_loaded_with_the_engine_of_its_format(models):
    for kind, engine in (("onnx", "onnxruntime"), ("tflite", "litert")):
        for path in (models[kind], str(models[kind])):
            with EdgeClassifier.load(path, threads=1) as classifier:
                assert (classifier.engine, classifier.threads) == (engine, 1)
                assert classifier.path == models[kind]
                assert classifier.metadata.name == NAME
                assert classifier.labels[3] == "class 3"
                assert NAME in repr(classifier) and engine in repr(classifier)


def test_a_stored_model_is_loaded_by_its_name(store):
    with EdgeClassifier.load(NAME) as classifier:
        assert classifier.engine == "onnxruntime"
    with EdgeClassifier.load(NAME, engine="litert") as classifier:
        assert classifier.path.suffix == ".tflite"


def test_a_stored_model_is_loaded_in_the_format_whose_engine_is_installed(store, monkeypatch):
    litert = engines.ENGINES["litert"]
    for module in (engines, effnet_edge.classifier):
        monkeypatch.setattr(module, "available_engines", lambda: (litert,))
    with EdgeClassifier.load(NAME) as classifier:
        assert classifier.engine == "litert"


def test_a_stored_model_that_no_engine_runs_says_what_to_install(models, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / models["tflite"].name).write_bytes(models["tflite"].read_bytes())
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    onnxruntime = engines.ENGINES["onnxruntime"]
    for module in (engines, effnet_edge.classifier):
        monkeypatch.setattr(module, "available_engines", lambda: (onnxruntime,))
    with pytest.raises(EngineError, match="pip install ai-edge-litert"):
        EdgeClassifier.load(NAME)


def test_a_missing_model_says_so(store, tmp_path):
    with pytest.raises(ModelNotFoundError, match=NAME):
        EdgeClassifier.load("efficientnet-b1-fp32")
    with pytest.raises(ModelNotFoundError, match=r"none\.onnx"):
        EdgeClassifier.load("none.onnx")
    with pytest.raises(ModelNotFoundError, match="is a folder"):
        EdgeClassifier.load(tmp_path)
    with pytest.raises(ModelNotFoundError, match="no/such"):
        EdgeClassifier.load("no/such")


def test_the_content_of_a_file_counts_and_not_its_name(models, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(models["tflite"].read_bytes())
    with EdgeClassifier.load(path) as classifier:
        assert classifier.engine == "litert"


def test_an_engine_of_the_other_format_is_refused(models):
    with pytest.raises(UsageError, match=r"not \.onnx"):
        EdgeClassifier.load(models["onnx"], engine="litert")
    with pytest.raises(UsageError, match="no engine 'gpu'"):
        EdgeClassifier.load(NAME, engine="gpu")


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_changed_or_truncated_model_never_reaches_the_engine(models, kind, tmp_path, monkeypatch):
    def never(*args):
        raise AssertionError("the engine saw the file")

    monkeypatch.setattr(effnet_edge.classifier, "open_session", never)
    data = models[kind].read_bytes()
    path = tmp_path / f"damaged.{kind}"
    for position in (len(data) // 3, len(data) // 2, len(data) - 100):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ModelError, match="damaged"):
            EdgeClassifier.load(path)
    for length in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match="damaged"):
            EdgeClassifier.load(path)


def test_a_model_that_contradicts_its_description_is_refused(tmp_path):
    recipe = Recipe((48, 40), (50, 60), mean=networks.IMAGENET_MEAN, std=networks.IMAGENET_STD)
    wrong = write_small_models(tmp_path, recipe=recipe)
    for path in wrong.values():
        with pytest.raises(ModelError, match=r"contradicts itself.*\(40, 48\).*\(48, 40\)"):
            EdgeClassifier.load(path)


def test_a_model_with_weights_in_another_file_never_reaches_the_engine(models, tmp_path):
    model = onnx.load(models["onnx"])
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    data = bytearray(path.read_bytes())
    at = data.index(seal.MARKER)
    data[at : at + len(seal.PLACEHOLDER)] = seal.PLACEHOLDER
    seal.seal(data)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="its seal doesn't cover"):
        EdgeClassifier.load(path)


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_a_model_replaced_while_it_is_loaded_is_loaded_again(models, kind, tmp_path, monkeypatch):
    labels = tuple(f"new {index}" for index in range(CLASSES))
    new = write_small_models(tmp_path / "new", labels=labels)[kind]
    path = tmp_path / new.name
    path.write_bytes(models[kind].read_bytes())
    read, opened = effnet_edge.classifier.read_metadata, engines.open_session
    sessions = []

    def read_then_replace(path):
        metadata = read(path)
        if new.exists():
            new.replace(path)
        return metadata

    def counted(*args):
        sessions.append(opened(*args))
        return sessions[-1]

    monkeypatch.setattr(effnet_edge.classifier, "read_metadata", read_then_replace)
    monkeypatch.setattr(effnet_edge.classifier, "open_session", counted)
    with EdgeClassifier.load(path) as classifier:
        assert classifier.labels == labels
    first, _ = sessions
    with pytest.raises(EngineError, match="closed"):
        first.run(np.zeros((1, *RESOLUTION, 3), np.uint8))


def test_a_model_that_is_replaced_all_the_time_is_given_up(models, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    data = models["onnx"].read_bytes()
    times = []

    def replace_it(path):
        times.append(1)
        (tmp_path / "new").write_bytes(data + b"x" * len(times))
        (tmp_path / "new").replace(path)
        raise ModelError("what a mixture of two files gives")

    path.write_bytes(data)
    monkeypatch.setattr(seal, "verify", replace_it)
    with pytest.raises(ModelError, match="was replaced while it was being loaded"):
        EdgeClassifier.load(path)
    assert len(times) == 4


def test_a_file_beside_the_user_does_not_shadow_a_stored_model(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).write_bytes(b"something else")
    with EdgeClassifier.load(NAME) as classifier:
        assert classifier.metadata.name == NAME
    with pytest.raises(ModelError, match="neither an ONNX nor"):
        EdgeClassifier.load(f"./{NAME}")


def test_a_file_whose_name_the_store_lacks_or_forbids_is_loaded(models, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("model.bin", "My Model"):
        (tmp_path / name).write_bytes(models["onnx"].read_bytes())
        with EdgeClassifier.load(name) as classifier:
            assert classifier.metadata.name == NAME


@pytest.mark.parametrize("nothing", [None, "", 3, b"model.onnx", ["a"]])
def test_what_is_neither_a_name_nor_a_path_is_refused(nothing):
    with pytest.raises(UsageError, match="give a"):
        EdgeClassifier.load(nothing)


@pytest.mark.parametrize(
    "path", ["~no-such-user-here/x.onnx", "a" * 300, f"{'a' * 300}.onnx", "a/\0.onnx", "\0", "~~"]
)
def test_impossible_paths_are_errors_of_ours(store, path):
    with pytest.raises((ModelNotFoundError, UsageError)):
        EdgeClassifier.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="pipe or a device"):
        EdgeClassifier.load(tmp_path / "pipe.onnx")


@pytest.mark.parametrize("threads", [1.5, "2", True, 0, -1, 1 << 40])
def test_a_thread_count_that_makes_no_sense_is_refused(models, threads):
    for path in models.values():
        with pytest.raises(UsageError, match="threads must be"):
            EdgeClassifier.load(path, threads=threads)


# Predicting


def test_predictions_are_the_softmax_of_the_logits_best_first(classifier):
    logits = classifier.logits(PHOTO)
    assert logits.shape == (CLASSES,) and logits.dtype == np.float32
    expected = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    predictions = classifier.predict(PHOTO, top_k=CLASSES)
    assert sorted(p.index for p in predictions) == list(range(CLASSES))
    for prediction in predictions:
        assert prediction.label == f"class {prediction.index}"
        assert prediction.probability == pytest.approx(expected[prediction.index], rel=1e-9)
    probabilities = [p.probability for p in predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-12)


def test_a_prediction_is_plain_frozen_data(classifier):
    prediction = classifier.predict(PHOTO)[0]
    json.dumps(vars(prediction))
    assert prediction == Prediction(prediction.index, prediction.label, prediction.probability)
    with pytest.raises(AttributeError):
        prediction.index = 3


def test_the_image_goes_through_the_models_own_recipe(classifier):
    metadata = classifier.metadata
    assert metadata.recipe.resolution == RESOLUTION
    pixels = preprocess(Image.fromarray(PHOTO), metadata.recipe)
    with engines.open_session(classifier.path, engines.ENGINES[classifier.engine]) as session:
        assert np.allclose(session.run(pixels[None])[0], classifier.logits(PHOTO), atol=1e-5)
        other = preprocess(Image.fromarray(PHOTO), replace(metadata.recipe, resize=RESOLUTION))
        assert not np.allclose(session.run(other[None])[0], classifier.logits(PHOTO), atol=1e-2)


def test_both_formats_give_the_same_logits(models):
    with EdgeClassifier.load(models["onnx"]) as a, EdgeClassifier.load(models["tflite"]) as b:
        assert networks.relative_error(a.logits(PHOTO), b.logits(PHOTO)) < 1e-4


def test_every_kind_of_image_gives_the_same_prediction(classifier, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PHOTO).save(path)
    expected = classifier.predict(PHOTO)
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file, Image.open(path)):
            assert classifier.predict(source) == expected


def test_top_k_is_bounded_by_the_classes_and_refused_below_1(classifier):
    assert [len(classifier.predict(PHOTO, k)) for k in (1, 5, 10, 99)] == [1, 5, 10, 10]
    for top_k in (0, -1):
        with pytest.raises(UsageError, match="top_k must be 1 or more"):
            classifier.predict(PHOTO, top_k=top_k)
        with pytest.raises(UsageError, match="top_k must be 1 or more"):
            classifier.predict_batch([], top_k=top_k)


@pytest.mark.parametrize("value", [2.5, "3", None, True, [1]])
def test_counts_of_another_type_are_refused(classifier, value):
    with pytest.raises(UsageError, match="top_k must be a whole number"):
        classifier.predict(PHOTO, top_k=value)
    with pytest.raises(UsageError, match="top_k must be a whole number"):
        classifier.predict_batch([PHOTO], top_k=value)
    with pytest.raises(UsageError, match="batch_size must be a whole number"):
        classifier.predict_batch([PHOTO], batch_size=value)


def test_counts_may_be_numpys_or_huge(classifier):
    assert len(classifier.predict(PHOTO, top_k=np.int64(3))) == 3
    assert len(classifier.predict_batch([PHOTO], top_k=10**30, batch_size=10**30)[0]) == CLASSES


def test_equal_logits_are_ordered_by_index(models, monkeypatch):
    with EdgeClassifier.load(models["onnx"]) as classifier:
        monkeypatch.setattr(
            classifier._session, "run", lambda batch: np.zeros((1, CLASSES), np.float32)
        )
        assert [p.index for p in classifier.predict(PHOTO, 4)] == [0, 1, 2, 3]


def test_huge_logits_make_sound_probabilities(models, monkeypatch):
    logits = np.full((1, CLASSES), -3e38, np.float32)
    logits[0, 7] = 3e38
    with EdgeClassifier.load(models["onnx"]) as classifier:
        monkeypatch.setattr(classifier._session, "run", lambda batch: logits)
        assert classifier.predict(PHOTO, 1) == [Prediction(7, "class 7", 1.0)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(models, monkeypatch, value):
    with EdgeClassifier.load(models["onnx"]) as classifier:
        monkeypatch.setattr(
            classifier._session, "run", lambda batch: np.full((1, CLASSES), value, np.float32)
        )
        with pytest.raises(ModelError, match="aren't finite"):
            classifier.predict(PHOTO)


# Batches


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_a_batch_is_its_images_one_by_one(classifier, batch_size):
    images = list(networks.photos(7, (60, 80)))
    batch = classifier.predict_batch(iter(images), top_k=2, batch_size=batch_size)
    for image, predictions in zip(images, batch, strict=True):
        expected = classifier.predict(image, top_k=2)
        assert [p.index for p in predictions] == [p.index for p in expected]
        assert predictions[0].probability == pytest.approx(expected[0].probability, abs=1e-5)


def test_a_stacked_array_is_a_batch_and_nothing_an_empty_one(classifier):
    assert len(classifier.predict_batch(networks.photos(3, (60, 80)))) == 3
    assert classifier.predict_batch([]) == []


def test_images_of_a_batch_are_read_no_sooner_than_needed(classifier):
    ready = 0

    def images():
        nonlocal ready
        for image in networks.photos(9, (60, 80)):
            ready += 1
            yield image

    seen = []
    run = classifier._session.run
    classifier._session.run = lambda batch: seen.append((ready, len(batch))) or run(batch)
    classifier.predict_batch(images(), batch_size=4)
    assert seen == [(4, 4), (8, 4), (9, 1)]


def test_a_bad_image_of_a_batch_is_named_by_its_place(classifier, tmp_path):
    (tmp_path / "bad.jpg").write_text("bad")
    with pytest.raises(ImageError, match=r"image 1: .*bad\.jpg"):
        classifier.predict_batch([PHOTO, tmp_path / "bad.jpg"])


@pytest.mark.parametrize(
    "one", [None, 3, "a.jpg", b"x", Path("a.jpg"), PHOTO, Image.fromarray(PHOTO), io.BytesIO(b"x")]
)
def test_one_image_is_no_batch(classifier, one):
    with pytest.raises(UsageError, match="several images"):
        classifier.predict_batch(one)


def test_a_batch_size_below_1_is_refused(classifier):
    with pytest.raises(UsageError, match="batch_size"):
        classifier.predict_batch([PHOTO], batch_size=0)


# Life and threads


def test_a_closed_classifier_says_so_and_may_be_closed_again(models):
    classifier = EdgeClassifier.load(models["onnx"])
    classifier.close()
    classifier.close()
    assert "closed" in repr(classifier) and classifier.labels
    for use in (classifier.predict, classifier.logits, lambda x: classifier.predict_batch([x])):
        with pytest.raises(EngineError, match="closed"):
            use(PHOTO)


def test_leaving_the_context_closes(models):
    with EdgeClassifier.load(models["onnx"]) as classifier:
        pass
    with pytest.raises(EngineError, match="closed"):
        classifier.predict(PHOTO)


def test_threads_may_share_a_classifier(classifier):
    images = networks.photos(6, (60, 80))
    expected = [classifier.predict(image) for image in images]
    start = threading.Barrier(6)

    def work(index):
        start.wait()
        return [classifier.predict(images[(index + i) % 6]) for i in range(10)]

    with ThreadPoolExecutor(6) as pool:
        for index, results in enumerate(pool.map(work, range(6))):
            for i, result in enumerate(results):
                wanted = expected[(index + i) % 6]
                assert [p.index for p in result] == [p.index for p in wanted]
                for got, want in zip(result, wanted, strict=True):
                    assert got.probability == pytest.approx(want.probability, abs=1e-5)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickling_and_copying_are_refused_with_advice(models, duplicate):
    with (
        EdgeClassifier.load(models["onnx"]) as classifier,
        pytest.raises(TypeError, match=r"EdgeClassifier\.load\("),
    ):
        duplicate(classifier)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
def test_a_forked_child_gets_an_error_instead_of_hanging(models):
    program = f"""
import os, sys, numpy as np
from effnet_edge import EdgeClassifier, EngineError
with EdgeClassifier.load({str(models["onnx"])!r}, threads=2) as classifier:
    image = np.zeros((50, 50, 3), np.uint8)
    classifier.predict(image)
    child = os.fork()
    if child == 0:
        try:
            classifier.predict(image)
        except EngineError as error:
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(3)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr


# The package


def modules_after(program: str) -> set[str]:
    program += "\nimport sys; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_importing_the_package_imports_no_engine_and_no_heavy_library():
    loaded = modules_after("import effnet_edge")
    assert "effnet_edge.classifier" in loaded
    roots = {name.split(".")[0] for name in loaded}
    assert not roots & {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tqdm", "platformdirs"}
    assert "effnet_edge.engines.onnxruntime" not in loaded


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_predicting_imports_neither_onnx_nor_a_converter(models, kind):
    engine = {"onnx": "onnxruntime", "tflite": "litert"}[kind]
    loaded = modules_after(f"""
import os
os.environ["EFFNET_EDGE_HOME"] = {str(models[kind].parent.parent)!r}
import numpy
from effnet_edge import EdgeClassifier
with EdgeClassifier.load({NAME!r}, engine={engine!r}) as classifier:
    assert len(classifier.predict(numpy.zeros((50, 60, 3), numpy.uint8))) == 5
""")
    assert f"effnet_edge.engines.{engine}" in loaded
    heavy = ("onnx", "flatbuffers", "h5py", "safetensors", "effnet_edge.converters")
    assert not [
        name for name in loaded if name in heavy or name.startswith(tuple(f"{h}." for h in heavy))
    ]


def test_the_package_exports_what_it_promises():
    for name in effnet_edge.__all__:
        assert getattr(effnet_edge, name) is not None
    assert effnet_edge.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="nonsense"):
        effnet_edge.nonsense  # noqa: B018
