"""Where and how jobs run: nothing here changes a result."""

from typing import Annotated, Literal

from pydantic import Field

from kvformer.spec.sections import Count, PositiveInt, Section


class Resources(Section):
    """What a scheduler must know of one training job; changes nothing in the result."""

    mem_mb: PositiveInt = Field(2000, description="Memory in MB.")
    runtime: PositiveInt = Field(60, description="Time limit in minutes; trainings with longer ones start first.")
    gpu: Count = Field(0, description="GPUs.")


class Execution(Section):
    """Where and how jobs run. Changing any of these plans no new training."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    compile: Literal["default", "reduce-overhead"] | None = Field(
        None,
        description="Compile training steps by torch.compile with this mode (reduce-overhead: CUDA graphs); rounds "
        "otherwise, as another device does. Meant for GPUs.",
    )
    data_folder: str = Field("data", description="Folder in which you may put data files of your own.")
    results_folder: str = Field("results", description="Folder that receives everything the workflow writes.")
    tracking_uri: str | None = Field(
        None, description="MLflow server; default is MLFLOW_TRACKING_URI or a local SQLite file."
    )
    keep_weights: bool = Field(False, description="Keep the final weights of every run (model.safetensors).")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(60.0, description="Seconds between resume checkpoints.")
