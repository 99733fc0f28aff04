"""How often a run was started: counted where looks must not wait for a run that fails."""

from kvformer.records.base import FileRecord


class Attempts(FileRecord):
    """`attempts.json`: how often a run that is not finished was started since the study was (`study`: that time)."""

    study: str
    count: int
