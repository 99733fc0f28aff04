"""Set anomaly detection: nine images of one class and one of another; find the odd one, from frozen image features."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kvformer.errors import DataError
from kvformer.seeding import generator
from kvformer.spec.sections import MOST, PositiveInt
from kvformer.spec.shapes import Shape
from kvformer.tasks.base import Arrays, Manifests, PreparedSection, TaskData, TaskDefinition, TaskRun


class AnomalyData(PreparedSection):
    """Sets of images, given by their features."""

    dataset: str = Field("cifar100_resnet34", description="Prepared features.")
    set_size: Annotated[int, Field(gt=2, le=MOST)] = Field(10, description="Images per set, including the anomaly.")
    position: Literal["last", "shuffled"] = Field(
        "shuffled",
        description="Place of the anomaly: always last, as published, or random. A fixed place can be learned.",
    )
    train_sets: PositiveInt | None = Field(
        None, description="Sets per epoch; default: each training image is the anomaly once."
    )
    evaluation_sets: PositiveInt | None = Field(None, description="Validation and test sets; default: one per image.")


FEATURES = 512
"""Width of the features, for counts before the data are prepared."""


def _shape(data: AnomalyData, manifests: Manifests | None) -> Shape:
    features = FEATURES if manifests is None else manifests[data.dataset].array("train_features").shape[1]
    return Shape(length=data.set_size, inputs=features, outputs=data.set_size)


def draw_sets(
    random: np.random.Generator, images: np.ndarray, labels: np.ndarray, data: AnomalyData, limit: int | None
) -> Arrays:
    """One set per image, with this image as the anomaly; or `limit` sets, for random images.

    images: indices into the features; labels: their classes. Returns `inputs` (sets, set_size) image indices and
    `targets` (sets,), the anomaly's place. The other images are distinct and of one other class. Raises DataError where
    a class has too few images.
    """
    by_class = [images[labels == label] for label in np.unique(labels)]
    counts = np.array([len(members) for members in by_class])
    if len(counts) < 2 or counts.min() < data.set_size - 1:
        raise DataError(
            f"data.set_size {data.set_size} needs at least two classes of at least {data.set_size - 1} images; "
            f"{data.dataset} has {len(counts)} classes in a split, the smallest with {min(counts, default=0)} images"
        )
    order = random.permutation(len(images))[:limit]
    own = np.unique(labels, return_inverse=True)[1][order]
    other = (own + random.integers(1, len(by_class), len(order))) % len(by_class)
    padded = np.zeros((len(by_class), counts.max()), dtype=images.dtype)
    for row, members in enumerate(by_class):
        padded[row, : len(members)] = members
    chosen = random.integers(0, counts[other, None], (len(order), data.set_size - 1))
    repeated = np.flatnonzero((np.diff(np.sort(chosen, axis=1), axis=1) == 0).any(axis=1))
    keys = random.random((len(repeated), counts.max()))
    keys[np.arange(counts.max()) >= counts[other[repeated], None]] = 1.0  # beyond the class's images
    chosen[repeated] = np.argsort(keys, axis=1)[:, : data.set_size - 1]
    sets = np.concatenate([padded[other[:, None], chosen], images[order][:, None]], axis=1)
    last = data.set_size - 1
    targets = np.full(len(order), last)
    if data.position == "shuffled":
        targets = random.integers(0, data.set_size, len(order))
        rows = np.arange(len(order))
        sets[rows, last], sets[rows, targets] = sets[rows, targets].copy(), sets[rows, last].copy()
    return {"inputs": sets.astype(np.int32), "targets": targets.astype(np.int16)}


def _load(run: TaskRun, manifests: Manifests) -> TaskData:
    data: AnomalyData = run.data
    manifest = manifests[data.dataset]
    labels, test_labels = np.asarray(manifest.array("train_labels")), np.asarray(manifest.array("test_labels"))
    held = _tenth_of_each_class(generator(data.dataset, "holdout", run.seed), labels)
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)

    def redraw(random: np.random.Generator) -> Arrays:
        return draw_sets(random, train, labels[train], data, data.train_sets)

    def fixed(split: str, images: np.ndarray, classes: np.ndarray) -> Arrays:
        return draw_sets(generator(run.task, split, run.seed), images, classes, data, data.evaluation_sets)

    splits = {
        "train": redraw(generator(run.task, "train", "epoch", 0, run.seed)),
        "validation": fixed("validation", validation, labels[validation]),
        "test": fixed("test", np.arange(len(test_labels)), test_labels),
    }
    train_features, test_features = manifest.array("train_features"), manifest.array("test_features")
    tables = {"train": train_features, "validation": train_features, "test": test_features}
    return TaskData(splits, _shape(data, manifests), [manifest.record()], tables=tables, redraw=redraw)


def _tenth_of_each_class(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held[random.permutation(members)[: len(members) // 10]] = True
    return held


DEFINITIONS = [
    TaskDefinition(
        name="anomaly",
        label="Set anomaly",
        summary="Find the image of another class in a set of ten, from frozen features.",
        family="vision",
        architecture="set_encoder",
        objective="classification",
        metric="accuracy",
        goal="max",
        balanced=True,
        data_config=AnomalyData,
        defaults={
            "model": {
                "dim": 256,
                "layers": 4,
                "heads": 4,
                "mlp_ratio": 2.0,
                "activation": "relu",
                "norm": "post",
                "scale": "head",
                "position_channels": 10,
                "init": "xavier_fused",
                "embedding_dropout": 0.1,
                "attention_output_dropout": 0.1,
                "mlp_dropout": 0.1,
                "mlp_output_dropout": 0.1,
                "head_dropout": 0.1,
            },
            "training": {
                "epochs": 100.0,
                "batch_size": 64,
                "drop_last": True,
                "optimizer": "adam",
                "learning_rate": 5e-4,
                "schedule": "cosine",
                "warmup_steps": 100,
                "clip_norm": 2.0,
                "evaluations": 100,
                "select": "best",
            },
        },
        protocols={"published": {"data": {"position": "last"}}, "corrected": {"data": {"position": "shuffled"}}},
        shape=_shape,
        load=_load,
    )
]
