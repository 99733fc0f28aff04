"""Blocks that all models share: MLP, transformer block, stack of blocks, embeddings, initialisation."""

import math

import torch
from torch import Tensor, nn

from kvformer.models.attention import Attention, KeysValues, KeyValueCache, cross_attention
from kvformer.models.fast.dropout import dropout
from kvformer.models.fast.linear import Linear
from kvformer.seeding import integer_seed
from kvformer.spec.formulas import mlp_hidden
from kvformer.spec.position_codes import sinusoids
from kvformer.spec.sections import ModelConfig
from kvformer.spec.terms import Stream
from kvformer.spec.variants import Variant


class Dropout(nn.Module):
    """Dropout in training, nothing in evaluation."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """x with elements dropped, same shape."""
        return dropout(x, self.probability) if self.training else x


class MLP(nn.Sequential):
    """The position-wise network D -> hidden -> D."""

    def __init__(self, model: ModelConfig, hidden: int) -> None:
        super().__init__(
            Linear(model.dim, hidden),
            nn.ReLU() if model.activation == "relu" else nn.GELU(),
            Dropout(model.mlp_dropout),
            Linear(hidden, model.dim),
        )


class Block(nn.Module):
    """Self-attention, cross-attention in a decoder with a memory, and an MLP, each in a residual branch with its
    LayerNorm."""

    def __init__(
        self, model: ModelConfig, variant: Variant, max_length: int, cross: bool = False, owns_keys_values: bool = True
    ) -> None:
        super().__init__()
        self.pre_norm = model.norm == "pre"
        spec = variant.attention
        self.attention = Attention(spec, model, max_length, owns_keys_values=owns_keys_values)
        self.attention_norm = nn.LayerNorm(model.dim)
        self.cross_attention = cross_attention(spec, model, max_length) if cross else None
        self.cross_norm = nn.LayerNorm(model.dim) if cross else None
        self.mlp = MLP(model, mlp_hidden(model, variant, cross))
        self.mlp_norm = nn.LayerNorm(model.dim)
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
    """A stack of blocks with an optional last LayerNorm; neighbouring blocks may share keys and values."""

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
        self.norm = nn.LayerNorm(model.dim) if model.final_norm else None

    def forward(
        self,
        x: Tensor,
        padding: Tensor | None = None,
        memory: Tensor | None = None,
        memory_padding: Tensor | None = None,
        cache: "DecoderCache | None" = None,
    ) -> Tensor:
        """x (B, N, D) to (B, N, D)."""
        attended = None
        for layer, block in enumerate(self.blocks):
            shared = attended if layer % self.group else None
            caches = cache.layer(layer, self.group) if cache is not None else (None, None)
            x, attended = block(x, self.causal, padding, memory, memory_padding, shared, caches)
        return x if self.norm is None else self.norm(x)


class DecoderCache:
    """The caches of a decoder's layers; layers that share keys and values share one."""

    def __init__(self) -> None:
        self.self_attention: dict[int, KeyValueCache] = {}
        self.cross_attention: dict[int, KeyValueCache] = {}

    def layer(self, layer: int, group: int) -> tuple[KeyValueCache | None, KeyValueCache]:
        """The self- and cross-attention caches of a layer; a layer without its own keys and values has no
        self-attention cache."""
        own = self.self_attention.setdefault(layer, KeyValueCache()) if layer % group == 0 else None
        return own, self.cross_attention.setdefault(layer, KeyValueCache())

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order (beam search)."""
        for cache in (*self.self_attention.values(), *self.cross_attention.values()):
            cache.reorder(rows)

    @property
    def length(self) -> int:
        """Tokens decoded so far."""
        return self.self_attention[0].length if self.self_attention else 0

    @property
    def bytes(self) -> int:
        """Bytes held for self-attention: the part that grows with every token."""
        return sum(cache.bytes for cache in self.self_attention.values())


class SymbolProjection(nn.Module):
    """A linear map of one-hot vectors, computed as a lookup: (B, N) integers to (B, N, D)."""

    def __init__(self, symbols: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(symbols, dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def initialise(self, scheme: str, stream: Stream) -> None:
        """As a linear layer with `symbols` inputs."""
        bound = 1 / math.sqrt(self.weight.shape[0])
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=stream("weight"))
            self.bias.uniform_(-bound, bound, generator=stream("bias"))

    def forward(self, symbols: Tensor) -> Tensor:
        """Rows of the weight, plus the bias."""
        return nn.functional.embedding(symbols, self.weight) + self.bias


class InputPositions(nn.Module):
    """Adds input positions to (B, N, D): fixed sinusoids or a learned table (N(0,1) at the start)."""

    def __init__(self, model: ModelConfig, max_length: int) -> None:
        super().__init__()
        self.learned = model.positions == "learned"
        if self.learned:
            self.table = nn.Parameter(torch.empty(max_length, model.dim))
        else:
            code = sinusoids(max_length, model.dim, halves=model.positions == "sinusoidal_halves")
            self.register_buffer("table", torch.from_numpy(code), persistent=False)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Draw the learned table."""
        if self.learned:
            with torch.no_grad():
                self.table.normal_(generator=stream("table"))

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x plus the codes of positions offset … offset + N - 1."""
        return x + self.table[offset : offset + x.shape[1]]


class TokenEmbedding(nn.Module):
    """Token embedding with positions and dropout: (B, N) integers to (B, N, D)."""

    def __init__(self, symbols: int, model: ModelConfig, max_length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(symbols, model.dim))
        self.factor = math.sqrt(model.dim) if model.embedding_scale else 1.0
        self.positions = InputPositions(model, max_length)
        self.drop = Dropout(model.embedding_dropout)

    def initialise(self, scheme: str, stream: Stream) -> None:
        """Xavier-uniform where all matrices are; else standard deviation 1 after the scaling by √D."""
        with torch.no_grad():
            if scheme == "xavier":
                nn.init.xavier_uniform_(self.weight, generator=stream("weight"))
            elif self.factor != 1.0:
                nn.init.trunc_normal_(self.weight, std=1 / self.factor, generator=stream("weight"))
            else:
                self.weight.normal_(generator=stream("weight"))

    def forward(self, tokens: Tensor, offset: int = 0) -> Tensor:
        """Embed tokens whose first one is at position `offset`."""
        embedded = nn.functional.embedding(tokens, self.weight)
        return self.drop(self.positions(embedded * self.factor if self.factor != 1.0 else embedded, offset))


def initialise(model: nn.Module, scheme: str, seed: int) -> None:
    """Draw all parameters. Every module draws from a stream named after it, so that variants share what they have in
    common."""
    for name, module in model.named_modules():

        def stream(purpose: str, name: str = name) -> torch.Generator:
            return torch.Generator().manual_seed(integer_seed("initialisation", name, purpose, seed))

        if hasattr(module, "initialise"):
            module.initialise(scheme, stream)
        elif isinstance(module, nn.Linear):
            attention_output = name.endswith("attention.output")
            bound = 1 / math.sqrt(module.in_features)
            with torch.no_grad():
                if scheme == "xavier" or (scheme != "default" and attention_output):
                    nn.init.xavier_uniform_(module.weight, generator=stream("weight"))
                else:
                    module.weight.uniform_(-bound, bound, generator=stream("weight"))
                if module.bias is not None:
                    if scheme in ("xavier_attention", "xavier_fused") and attention_output:
                        module.bias.zero_()
                    else:
                        module.bias.uniform_(-bound, bound, generator=stream("bias"))
