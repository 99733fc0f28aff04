"""Errors that a user can fix. The command line prints them as one line and exits with code 2."""

INTERRUPTED = 75
"""Exit code of a training run that saved its state and can be started again (EX_TEMPFAIL of sysexits.h)."""


class KvformerError(Exception):
    """A problem that the user can fix, always told in one line: the key or file, what it holds and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(KvformerError):
    """A key of the configuration is unknown, has the wrong type, or contradicts another key."""


class DataError(KvformerError):
    """A data set is not available, or a file of it is damaged."""


class CheckpointError(KvformerError):
    """A resume checkpoint is damaged or belongs to another configuration."""


class Interrupted(KvformerError):  # noqa: N818  (a request, not an error)
    """A signal stopped the training. Its state is saved, and it can be started again."""
