"""List the tasks. Each one is printed with the metric that it is judged by."""

from argparse import Namespace


def run(options: Namespace) -> None:
    """Print one line per task."""
    from kvformer.tasks import TASKS

    for task in TASKS.values():
        print(f"{task.name:14} {task.family:10} {task.summary} Judged by {task.metric} ({task.goal}).")
