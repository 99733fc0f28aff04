"""Signals that ask a run to stop."""

import signal
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While active, SIGTERM, SIGINT and SIGUSR1 only set `received`; the training loop checks it between steps.

    A second SIGINT (Ctrl-C pressed again) raises KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
