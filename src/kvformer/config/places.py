"""Whether the results of a study can be kept under its names in its folder: known before the first job."""

import os
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from kvformer.errors import ConfigError

ROOM = 24
"""Bytes of a name that are left for endings, and for the names of files while they are written."""

SPECIAL = {"{": "Snakemake", "}": "Snakemake", "?": "MLflow", '"': "MLflow"}
"""Characters of paths, and who takes them for something else."""
UNWRITTEN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, bytes that are not UTF-8, and line ends."""


def check_path(what: str, path: Path, *also: str) -> None:
    """Raise ConfigError where an absolute path holds a character that would lead elsewhere, or one of `also`."""
    for character in str(path):
        if unicodedata.category(character) in UNWRITTEN or character in {*SPECIAL, *also}:
            reason = f", which {SPECIAL[character]} takes for something else" if character in SPECIAL else ""
            raise ConfigError(f"{what}: {str(path)!r} holds {character!r}{reason}; choose a folder without it")


def check_places(results: str, name: str, runs: Collection[str]) -> None:
    """Raise ConfigError where the folder `results` cannot be used, a name or a path is too long for its file system, or
    another study's folder differs from that of the study `name` only in case.

    runs: paths of the runs' folders, relative to the study's.
    """
    if not results.strip():
        raise ConfigError("execution.results_folder: is empty; allowed: the path of a folder, such as results")
    folder = Path(results).absolute()
    check_path("the working directory", Path.cwd())
    check_path("execution.results_folder", folder)
    longest = _limit(folder, "PC_NAME_MAX", 255)
    most = _limit(folder, "PC_PATH_MAX", 4096) // 2  # Snakemake's records of a path need the other half
    given = max(folder.parts, key=lambda part: len(os.fsencode(part)))
    if len(os.fsencode(given)) > longest:
        raise ConfigError(f"execution.results_folder: '{given}' has more than {longest} bytes")
    part = max((part for run in [name, *runs] for part in run.split("/")), key=len)
    if len(part) > longest - ROOM:
        raise ConfigError(f"the name '{part}' has {len(part)} characters; allowed: {longest - ROOM}")
    size = max(len(os.fsencode(folder / name / "logs" / run)) for run in runs)
    if size > most:
        raise ConfigError(f"execution.results_folder: the paths of its files have up to {size} bytes; allowed: {most}")
    for made in (folder, folder / name, folder / "mlflow"):
        if not (present := _present(made)).is_dir():
            raise ConfigError(f"execution.results_folder: {present} is not a folder, and one is needed there")
    if folder.is_dir():
        for other in folder.iterdir():
            if other.name.casefold() == name.casefold() and other.name != name:
                raise ConfigError(
                    f"name: '{name}' and the folder {other} differ only in case, which some file systems and databases "
                    "ignore; choose another name"
                )


def check_writable(folders: Iterable[Path]) -> None:
    """Raise ConfigError where one of these folders of the results may not be written, or made, by this user."""
    for folder in folders:
        if not os.access(present := _present(folder.absolute()), os.W_OK | os.X_OK):
            raise ConfigError(f"execution.results_folder: {present} cannot be written by this user")


def _present(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if os.path.lexists(folder))


def _limit(folder: Path, name: str, usual: int) -> int:
    """A limit of the file system that `folder` is on, or will be."""
    try:
        found = os.pathconf(_present(folder), name)
    except (OSError, ValueError):
        return usual
    return found if found > 0 else usual
