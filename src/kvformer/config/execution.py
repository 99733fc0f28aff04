"""Where and how jobs run: nothing here changes a result."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kvformer.files import expand
from kvformer.spec.sections import Count, PositiveInt, Section

FolderPath = Annotated[str, AfterValidator(expand)]
"""A path in which `~` and environment variables are replaced when it is loaded."""


class Resources(Section):
    """What a scheduler must know about one training job. Changing these retrains nothing."""

    mem_mb: PositiveInt = Field(2000, description="Memory in MB.")
    runtime: PositiveInt = Field(60, description="Time limit in minutes. Runs with a longer limit start first.")
    gpu: Count = Field(0, description="Number of GPUs.")


class Execution(Section):
    """Where and how jobs run. Changing these retrains nothing."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto uses a GPU if there is one.")
    compile: Literal["default", "reduce-overhead"] | None = Field(
        None,
        description="Mode of torch.compile for training steps (reduce-overhead: CUDA graphs). Compiled steps round "
        "differently, as another device does. Meant for GPUs.",
    )
    cuda_graphs: bool = Field(
        True,
        description="Record a training step on a GPU once and replay it as a whole, where batches have fixed shapes. "
        "The results are the same.",
    )
    data_folder: FolderPath = Field("data", description="Folder for data files of your own.")
    results_folder: FolderPath = Field("results", description="Folder for everything that the workflow writes.")
    tracking_uri: str | None = Field(
        None, description="MLflow server; default is MLFLOW_TRACKING_URI or a local SQLite file."
    )
    keep_weights: bool = Field(False, description="Keep the final weights of every run (model.safetensors).")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(60.0, description="Seconds between resume checkpoints.")
    runs_per_job: Annotated[int, Field(gt=0, le=100)] = Field(
        1,
        description="Runs of one setting that a job trains one after the other, in one process: starting it, and a "
        "scheduler's queue, are paid for once.",
    )
    reuse: bool = Field(
        True,
        description="Take over a finished run of the same configuration, code, data and kind of device, from whichever "
        "study, instead of training it again.",
    )

    @property
    def prepared(self) -> Path:
        """The folder of prepared data sets."""
        return Path(self.results_folder, "data")

    @property
    def archive(self) -> Path:
        """The folder of finished runs by content."""
        return Path(self.results_folder, "archive")
