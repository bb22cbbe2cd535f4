"""A .tflite of ours in the hands of a client that knows nothing of us: MediaPipe Tasks."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from PIL import Image

from effnet_edge.converters.tflite_metadata import model_metadata
from effnet_edge.model_file import read_metadata

mediapipe = pytest.importorskip("mediapipe")

pytestmark = pytest.mark.oracle


def classify(path, image, count=5):
    vision = mediapipe.tasks.vision
    options = vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(path)), max_results=count
    )
    with vision.ImageClassifier.create_from_options(options) as classifier:
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
        return classifier.classify(picture).classifications


def test_the_first_head_gives_labels_and_probabilities_of_real_photos(lite0_home, photos):
    (path,) = lite0_home.rglob("*.tflite")
    labels = read_metadata(path).labels
    right = 0
    for photo, class_id in photos:
        image = np.asarray(Image.open(photo).convert("RGB").resize((224, 224)))
        probabilities, logits = classify(path, image)
        assert (probabilities.head_name, logits.head_name) == ("probabilities", "logits")
        best = probabilities.categories[0]
        assert best.category_name == labels[best.index]
        assert 0 < sum(category.score for category in probabilities.categories) <= 1.001
        right += best.index == class_id
    assert right >= 16


def test_every_field_is_where_the_schema_of_mediapipe_has_it():
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    network = networks.random_network(classes=3)
    data = model_metadata(network, networks.describe(network))
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    model = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(data))
    assert model.name == b"efficientnet-b0-fp32"
    assert b"EfficientNet-B0" in model.description
    assert model.minParserVersion == b"1.0.0"
    assert [file.name for file in model.associatedFiles] == [b"effnet_edge.json"]
    (graph,) = model.subgraphMetadata
    (image,) = graph.inputTensorMetadata
    assert image.name == b"image"
    assert image.content.contentPropertiesType == schema.ContentProperties.ImageProperties
    assert image.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
    (normalisation,) = image.processUnits
    assert normalisation.optionsType == schema.ProcessUnitOptions.NormalizationOptions
    assert (list(normalisation.options.mean), list(normalisation.options.std)) == ([0], [1])
    assert (list(image.stats.min), list(image.stats.max)) == ([0], [255])
    probabilities, logits = graph.outputTensorMetadata
    assert (probabilities.name, logits.name) == (b"probabilities", b"logits")
    assert probabilities.content.contentPropertiesType == schema.ContentProperties.FeatureProperties
    (labels,) = probabilities.associatedFiles
    assert (labels.name, labels.type) == (
        b"labels.txt",
        schema.AssociatedFileType.TENSOR_AXIS_LABELS,
    )
