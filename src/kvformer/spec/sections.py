"""The typed sections of a configuration that do not depend on the task: model and training.

Every field has a default and a description, from which the schema and the tables in config/README.md are generated.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST = 1_000_000_000
"""Upper limit of every count, so that a typo is rejected at once."""
Probability = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(gt=0, le=MOST)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A frozen part of the configuration that rejects unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    added: ClassVar[frozenset[str]] = frozenset()
    """Fields that version 1.0 did not have: left out of hashes at their default, so that finished runs stay valid."""

    def identity(self) -> dict[str, Any]:
        """The content that a run's hash is made of."""
        defaults = {name: type(self).model_fields[name].default for name in self.added}
        content = self.model_dump(mode="json")
        return {name: value for name, value in content.items() if name not in defaults or value != defaults[name]}


class ModelConfig(Section):
    """A transformer: sizes, norms, dropout, and the details in which the published models differ."""

    dim: PositiveInt = Field(64, description="Width d of the residual stream; a multiple of heads.")
    layers: PositiveInt = Field(2, description="Transformer blocks (per side in an encoder-decoder).")
    heads: PositiveInt = Field(4, description="Attention heads.")
    mlp_ratio: Annotated[float, Field(gt=0, le=1000)] = Field(
        2.0, description="Hidden width of the MLP as a multiple of dim."
    )
    activation: Literal["relu", "gelu", "swiglu"] = Field(
        "relu", description="Non-linearity of the MLP; swiglu has a third map, at equal parameters."
    )
    norm: Literal["pre", "post"] = Field(
        "pre", description="LayerNorm before each sublayer, or after each residual sum."
    )
    final_norm: bool = Field(False, description="A last LayerNorm after all blocks.")
    scale: Literal["head", "model"] = Field(
        "head", description="Divide the logits by the square root of the head width (head) or of dim (model)."
    )
    projection_bias: bool = Field(True, description="Biases in the query, key and value maps.")
    output_bias: bool = Field(True, description="Bias in the attention's output map.")
    position_channels: Annotated[int, Field(gt=2, le=MOST)] = Field(
        10, description="Channels m of the 2D positional encoding (kv_pos, k_pos and their controls)."
    )
    position_maps: Literal["layer", "head"] = Field(
        "layer", description="One map from m channels to 1 per layer, or one per layer and head."
    )
    position_init: Literal["model", "small"] = Field(
        "model",
        description="Start of the position map: as the model's other maps, or at 0.02·N(0, 1) as published in 2026.",
    )
    cross_query: Literal["key", "own", "published"] = Field(
        "key",
        description="Queries of cross-attention, for variants whose queries and keys share a map. key: reuse the key "
        "map. own: a separate query map. published: a separate map, skipped where source and target have equal "
        "length; there the keys attend to themselves.",
    )
    positions: Literal["sinusoidal", "sinusoidal_halves", "learned", "rope", "alibi", "none"] = Field(
        "sinusoidal",
        description="Positions: added to the input as fixed sinusoids (sine and cosine interleaved, or in two halves) "
        "or as a learned table; in attention as rotary positions (rope) or a fixed penalty on the distance (alibi); or "
        "none.",
    )
    embedding_scale: bool = Field(False, description="Multiply token embeddings by the square root of dim.")
    tied_output: bool = Field(False, description="Use the token embedding's matrix as output map.")
    init: Literal["default", "xavier", "xavier_attention", "xavier_fused"] = Field(
        "default",
        description="Initial weights. default: PyTorch's. xavier: Xavier-uniform for all matrices. xavier_attention: "
        "for attention only, each projection alone, with zero biases. xavier_fused: the same, with the projections as "
        "one matrix.",
    )
    embedding_init: Literal["model", "truncated"] = Field(
        "model",
        description="Start of the token embedding: as init says (N(0, 1) after scaling, or Xavier-uniform), or "
        "N(0, 1) after scaling, cut at two standard deviations.",
    )
    embedding_dropout: Probability = Field(0.0, description="Dropout on the embedded input.")
    attention_dropout: Probability = Field(0.0, description="Dropout on the attention weights.")
    attention_output_dropout: Probability = Field(0.0, description="Dropout on the attention sublayer's output.")
    mlp_dropout: Probability = Field(0.0, description="Dropout on the MLP's hidden layer.")
    mlp_output_dropout: Probability = Field(0.0, description="Dropout on the MLP sublayer's output.")
    head_dropout: Probability = Field(0.0, description="Dropout in the classification head.")
    rope_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of a head's components that rope rotates."
    )
    rope_base: Rate = Field(10_000.0, description="Base of rope's frequencies.")
    qk_norm: Literal["none", "rms", "rms_scale"] = Field(
        "none", description="Queries and keys divided by their root mean square, without or with a learned scale."
    )
    norm_kind: Literal["layernorm", "rmsnorm"] = Field(
        "layernorm", description="LayerNorm, or RMSNorm, in the blocks and after them."
    )
    mlp_bias: bool = Field(True, description="Biases in the MLP.")
    head_kind: Literal["mlp", "linear"] = Field(
        "mlp", description="Head of list and set encoders: a small MLP as published in 2023, or one linear map."
    )
    match: Literal["none", "mlp"] = Field(
        "none", description="mlp: the parameters that a variant saves against qkv are spent on a wider MLP."
    )

    added: ClassVar[frozenset[str]] = frozenset(
        {
            "position_init",
            "embedding_init",
            "rope_fraction",
            "rope_base",
            "qk_norm",
            "norm_kind",
            "mlp_bias",
            "head_kind",
            "match",
        }
    )

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "ModelConfig":
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads: dim is {self.dim}, heads is {self.heads}")
        if self.positions.startswith("sinusoidal") and self.dim % 2:
            raise ValueError(f"dim must be even for sinusoidal positions: dim is {self.dim}")
        if round(self.mlp_ratio * self.dim) < 1:
            raise ValueError(
                f"mlp_ratio must give the MLP at least one hidden unit: {self.mlp_ratio} x {self.dim} does not"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width h of one head."""
        return self.dim // self.heads


class TrainingConfig(Section):
    """How a model is trained and measured."""

    epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Passes over the training data (or give steps)."
    )
    steps: PositiveInt | None = Field(None, description="Optimisation steps (or give epochs).")
    batch_size: PositiveInt = Field(128, description="Examples per step.")
    evaluation_batch_size: PositiveInt = Field(500, description="Examples per forward pass of an evaluation.")
    drop_last: bool = Field(True, description="Leave out the last batch of an epoch if it is incomplete.")
    optimizer: Literal["adam", "adamw"] = Field("adam", description="Adam, or AdamW with decoupled weight decay.")
    learning_rate: Rate = Field(1e-3, description="Peak learning rate; for inverse_sqrt a factor of the formula.")
    betas: tuple[Probability, Probability] = Field((0.9, 0.999), strict=False, description="Adam's decay rates.")
    epsilon: Rate = Field(1e-8, description="Adam's epsilon.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Weight decay.")
    schedule: Literal["constant", "cosine", "warmup_cosine", "one_cycle", "inverse_sqrt", "wsd"] = Field(
        "constant",
        description="Learning-rate schedule over the steps. cosine falls from the first step, warmup_cosine after the "
        "warm-up, wsd (warm-up, stable, decay) at the end.",
    )
    decay_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="Share of the steps, at the end, over which wsd falls linearly to 0."
    )
    warmup_steps: Count = Field(0, description="Steps of linear warm-up (all but one_cycle).")
    clip_norm: Rate | None = Field(None, description="Clip the gradient to this global norm.")
    label_smoothing: Probability = Field(0.0, description="Share of the target probability spread over all classes.")
    evaluations: PositiveInt = Field(8, description="Evaluations on the validation split, evenly spaced over the run.")
    record_every: PositiveInt = Field(
        10, description="Number of steps over which the training loss is averaged before it is recorded."
    )
    select: Literal["last", "best"] = Field(
        "last", description="Weights to test: the last ones, or those with the best validation result."
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32",
        description="Arithmetic. tf32: matrix products of GPUs with 10 bits of mantissa. bf16: forward passes in "
        "bfloat16, by autocast. Both change results, and are refused where the device has none.",
    )
    threads: Annotated[int, Field(gt=0, le=1024)] = Field(
        1, description="CPU threads of a training process. They change how sums are rounded, and so the result."
    )

    added: ClassVar[frozenset[str]] = frozenset({"decay_share"})

    @model_validator(mode="after")
    def _one_duration(self) -> "TrainingConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"give exactly one of epochs and steps: epochs is {self.epochs}, steps is {self.steps}")
        return self
