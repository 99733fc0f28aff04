"""Hostile input: configurations at their limits and damaged files give a result or one line, never a traceback."""

import io
import typing
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from runs import MODEL, TRAINING, data_settings

from kvformer.config.loading import load_study
from kvformer.data.arrays import build_arrays
from kvformer.data.images import build_imagefolder
from kvformer.data.raw import RawFiles, unpack
from kvformer.data.text import build_text
from kvformer.errors import ConfigError, DataError, KvformerError
from kvformer.records.manifest import ManifestWriter, load_manifest
from kvformer.spec.sections import ModelConfig, Section, TrainingConfig
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import TASKS
from kvformer.training.run import train_run

FUZZ = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NUMBERS = {int: [0, 1, 2, 3, 5, 7, 20], float: [-1.0, 0.0, 1e-12, 0.001, 0.5, 0.999, 1.0, 3.0, 1e3, 1e30]}
LONG = {"steps", "epochs", "threads"}  # these only change how long a test takes


def boundaries(section: type[Section]) -> dict[str, list[Any]]:
    """Values at and beyond the limits of each key: all names, both booleans, small, odd and large numbers."""
    found = {}
    for name, field in section.model_fields.items():
        parts = [field.annotation, *typing.get_args(field.annotation)]
        values = [
            value for part in parts if typing.get_origin(part) is typing.Literal for value in typing.get_args(part)
        ]
        values += [value for kind, numbers in NUMBERS.items() if kind in parts for value in numbers]
        values += [None] if type(None) in parts else []
        values += [True, False] if bool in parts else []
        if values and name not in LONG:
            found[name] = values
    return found


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tiny run of any task and variant, in which one to three keys are at or beyond their limits."""
    task = draw(st.sampled_from(sorted(TASKS)))
    section: dict[str, Any] = {"data": dict(data_settings(task)), "model": dict(MODEL)}
    section |= {
        "training": {**TRAINING, "steps": 2},
        "seeds": [0],
        "variants": [draw(st.sampled_from(sorted(VARIANTS)))],
    }
    section["protocol"] = draw(st.sampled_from(["published", "corrected"]))
    keys = [
        (part, key, value)
        for part, kind in (("data", TASKS[task].data_config), ("model", ModelConfig), ("training", TrainingConfig))
        for key, values in boundaries(kind).items()
        for value in values
    ]
    for part, key, value in draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3)):
        section[part][key] = value
    return task, section


@settings(FUZZ, max_examples=40)
@given(configurations())
def test_what_is_accepted_can_be_trained(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, configuration: tuple[str, dict[str, Any]]
) -> None:
    """A configuration is refused while planning, refused before the first step because of the data, or trained."""
    task, section = configuration
    try:
        (run,) = load_study({"tasks": {task: section}}).runs()
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    steps = []
    try:
        train_run(
            run, tmp_path_factory.mktemp("run"), prepared, "cpu", report=lambda step, of, values: steps.append(step)
        )
    except KvformerError:
        assert not steps


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("model", "dim", 10**30),
        ("training", "evaluations", 10**30),
        ("data", "length", 10**30),
        ("model", "mlp_ratio", 1e30),
    ],
)
def test_numbers_beyond_every_machine_are_refused_while_planning(part: str, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"tasks.copy.{part}.{key}: must be less than or equal to"):
        load_study({"tasks": {"copy": {part: {key: value}}}})
    with pytest.raises(ConfigError, match="seeds"):
        load_study({"tasks": {"copy": {}}, "seeds": 10**9})


def test_a_run_that_does_not_fit_into_memory_is_one_line(prepared: Path, tmp_path: Path) -> None:
    section = {"data": data_settings("copy"), "model": {"dim": 10**6, "heads": 1}, "variants": ["kv"], "seeds": [0]}
    (run,) = load_study({"tasks": {"copy": section}}).runs()
    with pytest.raises(KvformerError, match=r"needs more memory than there is .* make the model or the batches"):
        train_run(run, tmp_path, prepared, device="cpu")
    assert (tmp_path / "failure.json").exists()


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def array(values: Any, dtype: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values, dtype=dtype))
    return stream.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


IMAGES = {f"{split}/{kind}/{n}.png": png(n) for split in ("train", "test") for kind in "ab" for n in range(2)}
ARRAYS = {
    f"{split}_{part}.npy": content
    for split in ("train", "test")
    for part, content in (("images", array(np.ones((6, 4, 4)), "uint8")), ("labels", array([0, 1, 2] * 2, "int64")))
}


def built(builder: Callable[..., dict[str, Any]], folder: Path, **options: Any) -> None:
    writer = ManifestWriter(folder / "built")
    writer.folder.mkdir()
    facts = builder(RawFiles(folder / "raw", folder / "scratch", "test"), writer, **options)
    writer.finish("sample", "Sample", "test", "none", facts)
    load_manifest(writer.folder, verify=True)


READERS: dict[str, tuple[dict[str, bytes], Callable[[Path], object]]] = {
    "arrays": (ARRAYS, lambda folder: built(build_arrays, folder)),
    "text": ({"a.txt": "To be, or not to be é.\n".encode() * 9}, lambda folder: built(build_text, folder)),
    "images": (IMAGES, lambda folder: built(build_imagefolder, folder, size=8)),
    "images in a zip file": ({"x.zip": zipped(IMAGES)}, lambda folder: built(build_imagefolder, folder, size=8)),
    "an archive": ({"x.zip": zipped(ARRAYS)}, lambda folder: unpack(folder / "raw" / "x.zip", folder / "unpacked")),
}


def damaged(content: bytes, kind: str, place: float, filler: bytes) -> bytes:
    at = int(place * len(content))
    return {
        "truncated": content[:at],
        "overwritten": content[:at] + filler + content[at + len(filler) :],
        "longer": content[:at] + filler + content[at:],
        "shorter": content[:at] + content[at + len(filler) :],
    }[kind]


@pytest.mark.parametrize("reader", READERS)
@settings(FUZZ, max_examples=40)
@given(
    kind=st.sampled_from(["truncated", "overwritten", "longer", "shorter"]),
    place=st.floats(0, 1, exclude_max=True),
    filler=st.binary(min_size=1, max_size=8) | st.sampled_from([b"\x00" * 8, b"\xff" * 8, b"\x7f", b"\n"]),
    chosen=st.integers(0, 3),
)
def test_a_damaged_file_is_read_or_named(
    reader: str, kind: str, place: float, filler: bytes, chosen: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files, read = READERS[reader]
    folder = tmp_path_factory.mktemp("damaged")
    victim = sorted(files)[chosen % len(files)]
    for name, content in files.items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(content, kind, place, filler) if name == victim else content)
    try:
        read(folder)
    except DataError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
