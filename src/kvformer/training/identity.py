"""What makes two runs the same run: everything that the result depends on."""

from collections.abc import Sequence

from kvformer.config.run import RunConfig
from kvformer.dependencies import code_digest
from kvformer.files import canonical_json, sha256_bytes
from kvformer.records.provenance import Identity
from kvformer.records.run import RunFolder
from kvformer.spec.variants import VARIANTS
from kvformer.tasks import MODULES


def identity_of(run: RunConfig, data: Sequence[str], device: str, compiler_mode: str | None) -> Identity:
    """The identity of a run on prepared data sets with these SHA-256, on this kind of device (cpu, cuda)."""
    identity = Identity(
        configuration=run.hash,
        variant=_variant(run),
        code=code_digest(MODULES[run.task]),
        data=list(data),
        device=device,
        compile=compiler_mode,
    )
    return identity.model_copy(update={"digest": _digest(identity.model_dump(exclude={"digest"}))})


def outdated(run: RunConfig, folder: RunFolder, data: dict[str, str] | None = None) -> bool:
    """Whether the folder holds a run that was trained with another configuration, variant or code, or on other data.
    False where that is not recorded.

    data: SHA-256 of the prepared data sets by name; without them, data are not compared.
    """
    provenance = folder.provenance()
    if provenance is None or provenance.identity is None:
        return False
    trained = provenance.identity
    digests = trained.data if data is None else [data.get(name, "") for name in run.datasets]
    wanted = identity_of(run, digests, trained.device, trained.compile)
    return trained.digest != wanted.digest


def cell_digest(run: RunConfig) -> str:
    """A digest of what the runs of a cell have in common: configuration without the seed, variant and code."""
    content = run.model_dump(mode="json", exclude={"seed", "setting", "overrides"})
    return _digest([content, _variant(run), code_digest(MODULES[run.task])])


def _variant(run: RunConfig) -> str:
    return _digest(VARIANTS[run.variant].definition)


def _digest(content: object) -> str:
    return sha256_bytes(canonical_json(content).encode())
