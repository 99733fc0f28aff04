"""Blocks that all models share: MLP, transformer block, stack of blocks."""

from torch import Tensor, nn

from kvformer.models.attention import Attention, DecoderCache, KeysValues, KeyValueCache, cross_attention
from kvformer.models.fast.dropout import dropout
from kvformer.models.fast.linear import Linear
from kvformer.models.norms import make_norm
from kvformer.spec.formulas import mlp_hidden
from kvformer.spec.sections import ModelConfig
from kvformer.spec.variants import Variant


class Dropout(nn.Module):
    """Dropout in training, nothing in evaluation."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """x with elements dropped, same shape."""
        return dropout(x, self.probability) if self.training else x


class SwiGLU(nn.Module):
    """W₂(SiLU(W₁x)∘W₃x), D -> hidden -> D (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, model: ModelConfig, hidden: int) -> None:
        super().__init__()
        self.gate = Linear(model.dim, hidden, bias=model.mlp_bias)
        self.up = Linear(model.dim, hidden, bias=model.mlp_bias)
        self.drop = Dropout(model.mlp_dropout)
        self.down = Linear(hidden, model.dim, bias=model.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return self.down(self.drop(nn.functional.silu(self.gate(x)) * self.up(x)))


class MLP(nn.Sequential):
    """The position-wise network D -> hidden -> D."""

    def __init__(self, model: ModelConfig, hidden: int) -> None:
        super().__init__(
            Linear(model.dim, hidden, bias=model.mlp_bias),
            nn.ReLU() if model.activation == "relu" else nn.GELU(),
            Dropout(model.mlp_dropout),
            Linear(hidden, model.dim, bias=model.mlp_bias),
        )


class Block(nn.Module):
    """Self-attention, cross-attention in a decoder with a memory, and an MLP, each in a residual branch with its
    norm."""

    def __init__(
        self, model: ModelConfig, variant: Variant, max_length: int, cross: bool = False, owns_keys_values: bool = True
    ) -> None:
        super().__init__()
        self.pre_norm = model.norm == "pre"
        spec = variant.attention
        self.attention = Attention(spec, model, max_length, owns_keys_values=owns_keys_values)
        self.attention_norm = make_norm(model)
        self.cross_attention = cross_attention(spec, model, max_length) if cross else None
        self.cross_norm = make_norm(model) if cross else None
        mlp = SwiGLU if model.activation == "swiglu" else MLP
        self.mlp = mlp(model, mlp_hidden(model, variant, max_length, cross))
        self.mlp_norm = make_norm(model)
        self.attention_drop = Dropout(model.attention_output_dropout)
        self.mlp_drop = Dropout(model.mlp_output_dropout)

    def forward(
        self,
        x: Tensor,
        causal: bool = False,
        padding: Tensor | None = None,
        memory: Tensor | None = None,
        memory_padding: Tensor | None = None,
        shared: KeysValues | None = None,
        caches: tuple[KeyValueCache | None, KeyValueCache | None] = (None, None),
    ) -> tuple[Tensor, KeysValues]:
        """x (B, N, D) to (B, N, D), and the self-attention's keys and values; arguments as in `Attention.forward`."""
        branch = self.attention_norm(x) if self.pre_norm else x
        branch, attended = self.attention(branch, None, causal, padding, shared, caches[0])
        x = x + self.attention_drop(branch)
        x = x if self.pre_norm else self.attention_norm(x)
        if self.cross_attention is not None and self.cross_norm is not None:
            branch = self.cross_norm(x) if self.pre_norm else x
            branch, _ = self.cross_attention(branch, memory, padding=memory_padding, cache=caches[1])
            x = x + self.attention_drop(branch)
            x = x if self.pre_norm else self.cross_norm(x)
        branch = self.mlp(self.mlp_norm(x) if self.pre_norm else x)
        x = x + self.mlp_drop(branch)
        return (x if self.pre_norm else self.mlp_norm(x)), attended


class Stack(nn.Module):
    """A stack of blocks with an optional last norm; neighbouring blocks may share keys and values."""

    def __init__(
        self, model: ModelConfig, variant: Variant, max_length: int, causal: bool = False, cross: bool = False
    ) -> None:
        super().__init__()
        self.causal = causal
        self.group = variant.attention.layers_per_kv
        self.blocks = nn.ModuleList(
            Block(model, variant, max_length, cross, owns_keys_values=layer % self.group == 0)
            for layer in range(model.layers)
        )
        self.norm = make_norm(model) if model.final_norm else None

    def forward(
        self,
        x: Tensor,
        padding: Tensor | None = None,
        memory: Tensor | None = None,
        memory_padding: Tensor | None = None,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """x (B, N, D) to (B, N, D)."""
        attended = None
        for layer, block in enumerate(self.blocks):
            shared = attended if layer % self.group else None
            caches = cache.layer(layer, self.group) if cache is not None else (None, None)
            x, attended = block(x, self.causal, padding, memory, memory_padding, shared, caches)
        return x if self.norm is None else self.norm(x)
