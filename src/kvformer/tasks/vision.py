"""Image classification with a vision transformer."""

from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from kvformer.errors import DataError
from kvformer.records.manifest import Manifest
from kvformer.seeding import generator
from kvformer.spec.sections import PositiveInt
from kvformer.spec.shapes import Shape
from kvformer.tasks.base import Arrays, Manifests, Overrides, PreparedSection, TaskData, TaskDefinition, TaskRun


class VisionData(PreparedSection):
    """A set of labelled images."""

    dataset: str = Field("mnist", description="Prepared data set.")
    patch: PositiveInt = Field(7, description="Side of a patch in pixels; divides the image's side.")
    validation: Literal["test", "holdout", "overlap"] = Field(
        "holdout",
        description="Images that select the checkpoint: the test split itself; a part of the training split that is "
        "held out; or a part drawn independently of the training part, so that most of it is trained on.",
    )
    validation_examples: PositiveInt = Field(5_000, description="Images held out of the training split.")
    image_size: PositiveInt | None = Field(
        None, description="Resize images to this side, bilinearly (default: no resizing)."
    )
    augment: Literal["none", "flip_crop"] = Field(
        "none", description="Random flips and random resized crops in training."
    )
    train_examples: PositiveInt | None = Field(None, description="Use only this many training images (default: all).")
    test_examples: PositiveInt | None = Field(None, description="Use only this many test images (default: all).")


Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, of pixels in [0, 1]."""


SIZES = {
    "mnist": (1, 28, 28, 10),
    "fashion_mnist": (1, 28, 28, 10),
    "cifar10": (3, 32, 32, 10),
    "cifar100": (3, 32, 32, 100),
}
SIZES["cifar10_jpeg"] = SIZES["cifar10"]


def _assumed(data: VisionData) -> tuple[int, int, int, int]:
    """Sizes of a user's set before it is prepared: the side in its name, or one that fits the patch; 200 classes."""
    size = data.dataset.rpartition("@")[2]
    side = int(size) if size.isdigit() else -(-64 // data.patch) * data.patch
    return 3, side, side, 200


def _shape(data: VisionData, manifests: Manifests | None) -> Shape:
    """Sizes of the prepared set, or assumed ones. Raises ValueError for a patch that does not divide the images."""
    if manifests is not None:
        manifest = manifests[data.dataset]
        images = manifest.array("train_images")
        height, width, channels = (*images.shape[1:3], 1 if images.ndim == 3 else images.shape[3])
        classes = int(manifest.facts["classes"])
    else:
        channels, height, width, classes = SIZES.get(data.dataset) or _assumed(data)
    if data.image_size is not None:
        height = width = data.image_size
    if height % data.patch or width % data.patch:
        raise ValueError(f"data.patch must divide the images of {data.dataset} ({height} x {width}), not {data.patch}")
    tokens = (height // data.patch) * (width // data.patch) + 1
    return Shape(tokens, channels * data.patch**2, classes, (channels, height, width), data.patch)


def _no_validation(data: VisionData) -> str | None:
    reasons = {
        "test": "its validation images are the test images (data.validation: test)",
        "overlap": "most of its validation images are trained on (data.validation: overlap)",
    }
    return reasons.get(data.validation)


def _images(manifest: Manifest, split: str) -> Arrays:
    return {"inputs": manifest.array(f"{split}_images"), "targets": manifest.array(f"{split}_labels")}


def _choose(arrays: Arrays, rows: np.ndarray) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _load(statistics: Statistics | None, run: TaskRun, manifests: Manifests) -> TaskData:
    """`statistics` are those of the published code. Without them, and where they are of another number of channels, the
    prepared images' own are used."""
    data: VisionData = run.data
    manifest = manifests[data.dataset]
    try:
        shape = _shape(data, manifests)
    except ValueError as error:
        raise DataError(f"{run.task}: {error}") from None
    images = _images(manifest, "train")
    test = {name: array[: data.test_examples] for name, array in _images(manifest, "test").items()}
    order = generator(data.dataset, "holdout", run.seed).permutation(len(images["targets"]))
    held, kept = np.split(order, [data.validation_examples])
    if data.validation == "test":
        kept, validation = order, test
    elif data.validation == "holdout":
        validation = _choose(images, held)
    else:
        again = generator(data.dataset, "second holdout", run.seed).permutation(len(order))
        validation = _choose(images, again[: data.validation_examples])
    chosen = data.validation != "test" or data.train_examples is not None
    train = _choose(images, np.sort(kept[: data.train_examples])) if chosen else images
    splits = {"train": train, "validation": validation, "test": test}
    if statistics is None or (len(statistics[0]) > 1 and len(statistics[0]) != shape.inputs // data.patch**2):
        # A channel that is the same everywhere has no spread to divide by.
        statistics = tuple(manifest.facts["mean"]), tuple(std or 1.0 for std in manifest.facts["std"])
    return TaskData(
        splits,
        shape,
        [manifest.record()],
        normalisation=statistics,
        resize=data.image_size,
        augment=data.augment == "flip_crop",
    )


MODEL = {
    "dim": 256,
    "layers": 4,
    "heads": 4,
    "mlp_ratio": 1.0,
    "activation": "gelu",
    "norm": "pre",
    "projection_bias": False,
    "position_channels": 50,
    "positions": "learned",
    "init": "default",
}
TRAINING = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "schedule": "constant",
    "select": "best",
    "evaluation_batch_size": 1000,
    "record_every": 20,
}
DIGITS: Overrides = {
    "data": {"patch": 7},
    "model": MODEL,
    "training": {**TRAINING, "epochs": 20.0, "batch_size": 200, "evaluations": 40, "drop_last": False},
}


def _photos(epochs: float) -> Overrides:
    return {
        "data": {"patch": 8, "augment": "flip_crop"},
        "model": {**MODEL, "dim": 128},
        "training": {
            **TRAINING,
            "epochs": epochs,
            "batch_size": 128,
            "evaluations": 2 * int(epochs),
            "drop_last": True,
        },
    }


TINY: Overrides = {
    "data": {"dataset": "imagefolder:tiny-imagenet", "patch": 16, "image_size": 224, "augment": "flip_crop"},
    "model": {**MODEL, "dim": 768, "layers": 12, "heads": 12, "mlp_ratio": 4.0},
    "training": _photos(50.0)["training"],
}
"""Sizes as in arXiv 2606.04032, which does not say how long it trained: here as long as CIFAR-100."""


def _task(
    name: str, label: str, summary: str, defaults: Overrides, validation: str, statistics: Statistics | None
) -> TaskDefinition:
    return TaskDefinition(
        name=name,
        label=label,
        summary=summary,
        family="vision",
        architecture="vit",
        objective="classification",
        metric="accuracy",
        goal="max",
        balanced=True,
        data_config=VisionData,
        defaults={**defaults, "data": {"dataset": name, **defaults["data"]}},
        protocols={
            "published": {"model": {"scale": "model"}, "data": {"validation": validation}},
            "corrected": {"model": {"scale": "head"}, "data": {"validation": "holdout"}},
        },
        shape=_shape,
        load=partial(_load, statistics),
        no_validation=_no_validation,
    )


GREY = ((0.1307,), (0.3081,))
"""Mean and standard deviation of MNIST; the published code uses them for Fashion-MNIST too."""
COLOUR = ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784))
"""Channel means and deviations of CIFAR-10's training images; the published code uses them for CIFAR-100 too."""

DEFINITIONS = [
    _task("mnist", "MNIST", "Classify handwritten digits.", DIGITS, "test", GREY),
    _task("fashion_mnist", "Fashion-MNIST", "Classify pictures of clothes.", DIGITS, "test", GREY),
    _task("cifar10", "CIFAR-10", "Classify photos of ten kinds.", _photos(40.0), "overlap", COLOUR),
    _task("cifar100", "CIFAR-100", "Classify photos of a hundred kinds.", _photos(50.0), "overlap", COLOUR),
    _task("tiny_imagenet", "Tiny ImageNet", "Classify photos of two hundred kinds.", TINY, "test", None),
]
