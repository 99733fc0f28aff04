"""Progress of a training run: a bar on a terminal, lines in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from kvformer.training.loop import Report

LOG_SECONDS = 10.0


@contextmanager
def progress_reporter(stream: TextIO) -> Iterator[Report]:
    """A function to be called with (step, steps, newest values)."""
    if stream.isatty():
        from tqdm import tqdm

        with tqdm(unit="step", file=stream, dynamic_ncols=True) as bar:

            def show(step: int, steps: int, values: dict[str, float]) -> None:
                bar.total = steps
                bar.set_postfix_str(_text(values), refresh=False)
                bar.update(step - bar.n)

            yield show
        return

    latest = time.monotonic()

    def log(step: int, steps: int, values: dict[str, float]) -> None:
        nonlocal latest
        evaluated = any(key.startswith("validation/") for key in values)
        if evaluated or step == steps or time.monotonic() - latest > LOG_SECONDS:
            print(f"step {step}/{steps} ({step / steps:.0%})  {_text(values)}", file=stream, flush=True)
            latest = time.monotonic()

    yield log


def _text(values: dict[str, float]) -> str:
    shown = {
        key: value
        for key, value in values.items()
        if not key.startswith("diagnostics/") and key != "train/learning_rate"
    }
    return "  ".join(f"{key} {value:.4f}" for key, value in shown.items())
