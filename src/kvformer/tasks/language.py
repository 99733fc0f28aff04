"""Next-token prediction with a decoder: characters of Shakespeare, and numbers in words."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from kvformer.seeding import generator
from kvformer.spec.sections import PositiveInt
from kvformer.spec.shapes import Shape
from kvformer.tasks.base import Arrays, Manifests, PreparedSection, TaskData, TaskDefinition, TaskRun


class CharactersData(PreparedSection):
    """A long text, read in windows."""

    assumed_symbols: ClassVar[int] = 65  # for counts before the data are prepared
    dataset: str = Field("shakespeare", description="Prepared data set.")
    context: PositiveInt = Field(64, description="Characters that the model sees.")
    validation_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="Share of the text that is held out for validation, towards its end."
    )
    test_share: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="Share of the text, at its end, for the test; 0: no test split, the validation split is reported.",
    )
    evaluation: Literal["random_windows", "whole"] = Field(
        "whole", description="Measure on random windows of a split, or on all of it, window by window."
    )
    evaluation_batches: PositiveInt = Field(200, description="Batches of random windows.")


class NumbersData(PreparedSection):
    """The numbers 1 to 9999 in words, in non-overlapping windows."""

    assumed_symbols: ClassVar[int] = 30
    dataset: str = Field("human_numbers", description="Prepared data set.")
    context: PositiveInt = Field(16, description="Words that the model sees.")
    validation_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.2, description="Share of the windows, at the end, that is held out."
    )
    whole_validation_batches: bool = Field(
        False,
        description="Leave out random validation windows so that whole batches remain, as the published code does.",
    )


def _shape(data: CharactersData | NumbersData, manifests: Manifests | None) -> Shape:
    symbols = data.assumed_symbols if manifests is None else len(manifests[data.dataset].facts["vocabulary"])
    return Shape(length=data.context, inputs=symbols, outputs=symbols)


def _load_characters(run: TaskRun, manifests: Manifests) -> TaskData:
    data: CharactersData = run.data
    manifest = manifests[data.dataset]
    tokens = manifest.array("tokens")
    test = len(tokens) - int(len(tokens) * data.test_share)
    validation = test - int(len(tokens) * data.validation_share)
    splits = {"train": {"tokens": tokens[:validation]}, "validation": {"tokens": tokens[validation:test]}}
    if data.test_share:
        splits["test"] = {"tokens": tokens[test:]}
    vocabulary = list(manifest.facts["vocabulary"])
    return TaskData(
        splits,
        _shape(data, manifests),
        [manifest.record()],
        stream=True,
        random_windows=data.evaluation_batches if data.evaluation == "random_windows" else None,
        vocabulary=vocabulary,
    )


def _load_numbers(run: TaskRun, manifests: Manifests) -> TaskData:
    data: NumbersData = run.data
    manifest = manifests[data.dataset]
    tokens = manifest.array("tokens")
    count = (len(tokens) - 1) // data.context
    inputs = tokens[: count * data.context].reshape(count, data.context)
    targets = tokens[1 : count * data.context + 1].reshape(count, data.context)
    train = int(count * (1 - data.validation_share))
    validation = np.arange(train, count)
    if data.whole_validation_batches:
        whole = len(validation) - len(validation) % run.training.batch_size
        validation = np.sort(generator(run.task, "validation", run.seed).permutation(validation)[:whole])
    splits: dict[str, Arrays] = {
        "train": {"inputs": inputs[:train], "targets": targets[:train]},
        "validation": {"inputs": inputs[validation], "targets": targets[validation]},
    }
    vocabulary = list(manifest.facts["vocabulary"])
    return TaskData(splits, _shape(data, manifests), [manifest.record()], vocabulary=vocabulary)


def _no_validation(data: CharactersData | NumbersData) -> str | None:
    if isinstance(data, NumbersData):
        return "it has no test split, so that the validation split is reported"
    return None if data.test_share else "its validation split is reported (data.test_share: 0)"


MODEL = {
    "mlp_ratio": 4.0,
    "activation": "relu",
    "norm": "pre",
    "final_norm": True,
    "projection_bias": False,
}
TRAINING = {"batch_size": 64, "optimizer": "adamw", "weight_decay": 0.01}

CHARACTERS = TaskDefinition(
    name="characters",
    label="Characters",
    summary="Predict the next character of Shakespeare's plays.",
    family="language",
    architecture="gpt",
    objective="classification",
    metric="loss",
    goal="min",
    data_config=CharactersData,
    defaults={
        "model": {
            **MODEL,
            "dim": 192,
            "layers": 6,
            "heads": 3,
            "position_channels": 20,
            "position_maps": "head",
            "positions": "learned",
            "init": "default",
            "attention_dropout": 0.2,
            "attention_output_dropout": 0.2,
            "mlp_output_dropout": 0.2,
        },
        "training": {
            **TRAINING,
            "steps": 10_000,
            "learning_rate": 5e-4,
            "schedule": "constant",
            "evaluations": 50,
            "record_every": 50,
        },
    },
    protocols={
        "published": {"model": {"scale": "model"}, "data": {"evaluation": "random_windows"}},
        "corrected": {
            "model": {"scale": "head"},
            "data": {"evaluation": "whole", "test_share": 0.05, "validation_share": 0.05},
        },
    },
    shape=_shape,
    load=_load_characters,
    no_validation=_no_validation,
    sample_tokens=400,
)

NUMBERS = TaskDefinition(
    name="numbers",
    label="Numbers",
    summary="Predict the next word of the numbers from 1 to 9999 in words; the largest numbers are held out.",
    family="language",
    architecture="gpt",
    objective="classification",
    metric="accuracy",
    goal="max",
    data_config=NumbersData,
    defaults={
        "model": {
            **MODEL,
            "dim": 64,
            "layers": 4,
            "heads": 8,
            "scale": "head",
            "output_bias": False,
            "position_channels": 10,
            "positions": "sinusoidal_halves",
            "embedding_scale": True,
            "tied_output": True,
            "init": "xavier_attention",
            "embedding_dropout": 0.1,
            "attention_output_dropout": 0.1,
            "mlp_dropout": 0.2,
        },
        "training": {
            **TRAINING,
            "epochs": 15.0,
            "drop_last": True,
            "learning_rate": 1e-3,
            "betas": (0.95, 0.99),
            "epsilon": 1e-5,
            "schedule": "one_cycle",
            "evaluations": 15,
        },
    },
    protocols={
        "published": {"data": {"whole_validation_batches": True}, "model": {"embedding_init": "truncated"}},
        "corrected": {"data": {"whole_validation_batches": False}},
    },
    shape=_shape,
    load=_load_numbers,
    no_validation=_no_validation,
    sample_tokens=60,
)

DEFINITIONS = [CHARACTERS, NUMBERS]
