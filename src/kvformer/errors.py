"""Errors that a user can act on. The command line prints them as one line and exits with code 2."""


class KvformerError(Exception):
    """Something the user can mend: the message names the key or file, what it holds and what is allowed.

    The message is one line, whatever it quotes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(KvformerError):
    """A key of the configuration is unknown, has the wrong type, or contradicts another key."""


class DataError(KvformerError):
    """A data set could not be obtained, or a file of it is damaged or malformed."""


class CheckpointError(KvformerError):
    """A resume checkpoint is damaged or belongs to another configuration."""


class Interrupted(KvformerError):  # noqa: N818  (a request, not an error)
    """Training was asked to stop by a signal, saved its state and can be started again."""
