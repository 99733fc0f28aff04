"""CIFAR-10 and CIFAR-100: pickled batches of 32 x 32 colour images."""

import io
import pickle
from typing import Any

import numpy as np

from kvformer.data.facts import image_facts
from kvformer.data.raw import RawFiles
from kvformer.errors import DataError
from kvformer.records.manifest import ManifestWriter

# MD5 of the pickles, as torchvision checks them.
CIFAR10 = {
    "train": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
    "meta": {"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
}
CIFAR100 = {
    "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
    "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    "meta": {"meta": "7973b15100ade9c7d40fb424638fde48"},
}
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

ARRAY_PARTS = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
"""The only names that a pickled array imports, with their modules in the NumPy that wrote CIFAR's batches."""


class ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and Python's plain types. Every other import that a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """A part of an array. Raises DataError for all other names."""
        if (module.replace("._core", ".core"), name) not in ARRAY_PARTS:
            raise DataError(f"the pickle asks for {module}.{name}, only arrays and plain values are read")
        return super().find_class(module.replace(".core", "._core"), name)


def build_cifar(
    raw: RawFiles, writer: ManifestWriter, digests: dict[str, dict[str, str]], label: str
) -> dict[str, Any]:
    """train_images (50000, 32, 32, 3), train_labels (50000,), test_images (10000, 32, 32, 3), test_labels: uint8.

    `digests` gives the files of "train", "test" and "meta" with the MD5 that is checked before unpickling. The batches
    have the labels under `label` + "s", the meta file has the class names under `label` + "_names".
    """

    def unpickle(name: str, md5: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = ArrayUnpickler(io.BytesIO(raw.read(name, digest=md5)), encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise DataError(f"{name}: not a pickle ({error})") from None
        return content

    images = {}
    for split in ("train", "test"):
        batches = [unpickle(name, md5) for name, md5 in digests[split].items()]
        pixels = np.concatenate([batch["data"] for batch in batches])  # (N, 3072): all red, all green, all blue
        images[split] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        writer.save(f"{split}_images", images[split])
        writer.save(f"{split}_labels", np.concatenate([batch[f"{label}s"] for batch in batches]).astype(np.uint8))
    ((meta, md5),) = digests["meta"].items()
    return image_facts(images["train"], unpickle(meta, md5)[f"{label}_names"])
