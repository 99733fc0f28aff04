"""`provenance.json`: where, when and with what a run was trained, or the runs of an exported study."""

from pydantic import Field

from kvformer.records.base import FileRecord, Record


class DataRecord(Record):
    """What a run says of one data set that it read. `label` is the name to print: a stand-in has its own."""

    dataset: str = ""
    label: str = ""
    source: str = ""
    sha256: str = ""


class GitState(Record):
    """The commit of the checkout that trained, whether it was changed, and a digest of the changes; null if unknown."""

    commit: str | None = None
    dirty: bool | None = None
    diff_sha256: str | None = None


class Identity(Record):
    """What the result of a run depends on: two runs with equal digests are the same run.

    configuration: its hash. variant: SHA-256 of the variant's definition. code: digest of the code that trains. data:
        SHA-256 of each prepared data set. device: kind of device (cpu, cuda). compile: mode of torch.compile.
    digest: SHA-256 of all of them.

    The exported copy of a study keeps only what its runs have in common; the rest has its default there.
    """

    configuration: str = ""
    variant: str = ""
    code: str = ""
    data: list[str] = Field(default_factory=list)
    device: str = ""
    compile: str | None = None
    digest: str = ""


class Provenance(FileRecord):
    """`provenance.json`: where, when and with what a run was trained. Times are ISO 8601, UTC.

    cuda_graph: whether its steps were replayed as a CUDA graph. linear: which library computed linear maps on the CPU
        (`models.fast.linear.LIBRARIES`). taken_over_from: the run folder in which it was trained, where that is another
        one.
    """

    git: GitState = Field(default_factory=GitState)
    packages: dict[str, str | None] = Field(default_factory=dict)
    python: str | None = None
    platform: str | None = None
    cpu: str | None = None
    gpu: str | None = None
    cuda: str | None = None
    threads: int | None = None
    device: str | None = None
    precision: str | None = None
    compile: str | None = None
    cuda_graph: bool | None = None
    linear: str | None = None
    data: list[DataRecord] = Field(default_factory=list)
    start: str | None = None
    end: str | None = None
    attempts: int | None = None
    command: str | None = None
    identity: Identity | None = None
    taken_over_from: str | None = None


class SharedProvenance(Provenance):
    """What several runs of an exported study say of their origin; start and end span all of them. runs: their paths."""

    runs: list[str] = Field(default_factory=list)


class StudyProvenance(FileRecord):
    """`provenance.json` in the folder of an exported study, which has no run folders."""

    records: list[SharedProvenance] = Field(default_factory=list)
