"""Records: JSON objects in files, typed, with one writer and one tolerant reader."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from kvformer.errors import DataError
from kvformer.files import read_json, write_json


class Record(BaseModel):
    """A part of a record. A key that this version does not know is kept, a missing one has its default: files of other
    versions stay readable."""

    model_config = ConfigDict(frozen=True, extra="allow")


class FileRecord(Record):
    """A record that is a file of its own."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """The record in the file `path`.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: the file cannot be read, is not JSON, or a key of it is missing or has the wrong type.
        """
        try:
            return cls.model_validate(read_json(path))
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{path}: no such file") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "the file"
            raise DataError(f"{path}: {key}: {first['msg']}") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            raise DataError(f"{path}: not JSON ({error})") from None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record in the file `path`; None where the file is missing or damaged."""
        try:
            return cls.load(path)
        except (FileNotFoundError, DataError):
            return None

    def write(self, path: Path) -> None:
        """Write the record as readable JSON with sorted keys, atomically."""
        write_json(path, self.model_dump(mode="json"))
