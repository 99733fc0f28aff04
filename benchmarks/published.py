"""The published formulation of arXiv 2305.19129, in plain PyTorch, written from its equations and settings.

What the experiments do and kvformer does not: the position map runs over the scores plus P, stored for each of its m
channels; the character model has separate small maps for each head; a kv model creates a position map that it never
uses and, in translation, computes a query that it never uses; one-hot vectors go through a matrix; the decoder computes
logits of padding, too; each number of a dropout mask is drawn separately; the optimiser is PyTorch's default one.

Shapes: B batch, H heads, N tokens, M keys, D width, h = D/H, m position channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kvformer.config.run import RunConfig
from kvformer.data.tokens import PADDING
from kvformer.spec.position_codes import code_2d, sinusoids
from kvformer.spec.sections import ModelConfig
from kvformer.spec.shapes import Shape


class PositionMap(nn.Module):
    """Scores (…, N, M) to m channels, plus P, and back to one by a linear map."""

    def __init__(self, model: ModelConfig, length: int) -> None:
        super().__init__()
        self.map = nn.Linear(model.position_channels, 1)
        self.register_buffer("code", torch.from_numpy(code_2d(length, model.position_channels)), persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        """(…, N, M)."""
        queries, keys = scores.shape[-2:]
        return self.map(scores[..., None] + self.code[:queries, :keys]).squeeze(-1)


class Attention(nn.Module):
    """Multi-head attention with one fused map (the encoder and the vision model) or separate ones (the others)."""

    def __init__(self, model: ModelConfig, variant: str, length: int, fused: bool) -> None:
        super().__init__()
        dim, bias = model.dim, model.projection_bias
        self.variant, self.heads, self.fused = variant, model.heads, fused
        self.scale = 1 / math.sqrt(model.head_dim if model.scale == "head" else dim)
        self.published_cross = model.cross_query == "published"
        if fused:
            self.projection = nn.Linear(dim, (3 if variant == "qkv" else 2) * dim, bias=bias)
        else:
            self.key, self.value = nn.Linear(dim, dim, bias=bias), nn.Linear(dim, dim, bias=bias)
            if variant == "qkv" or self.published_cross:
                self.query = nn.Linear(dim, dim, bias=bias)
        if variant != "qkv":
            self.position = PositionMap(model, length)  # kv has one too, but never uses it
        self.output = nn.Linear(dim, dim, bias=model.output_bias)
        self.drop = nn.Dropout(model.attention_dropout)

    def forward(self, x: Tensor, memory: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """x (B, N, D), memory (B, M, D) or x itself; `hidden` is true where a key is masked; returns (B, N, D)."""
        batch, length, dim = x.shape
        source = x if memory is None else memory
        if self.fused:
            parts = self.projection(x).reshape(batch, length, self.heads, -1).permute(0, 2, 1, 3)
            queries, keys, values = parts.chunk(3, dim=-1) if self.variant == "qkv" else (None, *parts.chunk(2, dim=-1))
        else:
            queries = self._split(self.query(x)) if hasattr(self, "query") else None
            keys, values = self._split(self.key(source)), self._split(self.value(source))
        if self.variant != "qkv" and (queries is None or queries.shape == keys.shape):
            queries = keys
        scores = torch.matmul(queries, keys.transpose(-2, -1)) * self.scale
        if self.variant == "kv_pos":
            scores = self.position(scores)
        if hidden is not None:
            scores = scores.masked_fill(hidden, -math.inf)
        weights = self.drop(F.softmax(scores, dim=-1))
        mixed = torch.matmul(weights, values)
        return self.output(mixed.permute(0, 2, 1, 3).reshape(batch, length, dim))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class Head(nn.Module):
    """One head of the character model, with its own maps and its own position map."""

    def __init__(self, model: ModelConfig, variant: str, length: int) -> None:
        super().__init__()
        self.variant = variant
        self.scale = 1 / math.sqrt(model.head_dim if model.scale == "head" else model.dim)
        self.key = nn.Linear(model.dim, model.head_dim, bias=False)
        self.value = nn.Linear(model.dim, model.head_dim, bias=False)
        if variant == "qkv":
            self.query = nn.Linear(model.dim, model.head_dim, bias=False)
        else:
            self.position = PositionMap(model, length)
        self.register_buffer("visible", torch.tril(torch.ones(length, length)), persistent=False)
        self.drop = nn.Dropout(model.attention_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, h)."""
        length = x.shape[1]
        keys, values = self.key(x), self.value(x)
        queries = self.query(x) if self.variant == "qkv" else keys
        scores = queries @ keys.transpose(-2, -1) * self.scale
        if self.variant == "kv_pos":
            scores = self.position(scores)
        scores = scores.masked_fill(self.visible[:length, :length] == 0, -math.inf)
        return self.drop(F.softmax(scores, dim=-1)) @ values


class Heads(nn.Module):
    """The heads of the character model, side by side."""

    def __init__(self, model: ModelConfig, variant: str, length: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(model, variant, length) for _ in range(model.heads))
        self.output = nn.Linear(model.dim, model.dim)

    def forward(self, x: Tensor, memory: None = None, hidden: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D); the heads mask the future themselves."""
        return self.output(torch.cat([head(x) for head in self.heads], dim=-1))


class Block(nn.Module):
    """Attention, cross-attention (in the decoder of translation) and an MLP, with the norm before or after each."""

    def __init__(self, model: ModelConfig, attention: nn.Module, cross: nn.Module | None = None) -> None:
        super().__init__()
        self.pre = model.norm == "pre"
        self.attention, self.cross = attention, cross
        hidden = round(model.mlp_ratio * model.dim)
        self.mlp = nn.Sequential(
            nn.Linear(model.dim, hidden),
            nn.ReLU() if model.activation == "relu" else nn.GELU(),
            nn.Dropout(model.mlp_dropout),
            nn.Linear(hidden, model.dim),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(model.dim) for _ in range(2 if cross is None else 3))
        self.drop, self.mlp_drop = nn.Dropout(model.attention_output_dropout), nn.Dropout(model.mlp_output_dropout)

    def forward(
        self, x: Tensor, hidden: Tensor | None = None, memory: Tensor | None = None, memory_hidden: Tensor | None = None
    ) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        sublayers = [lambda y: self.drop(self.attention(y, None, hidden)), lambda y: self.mlp_drop(self.mlp(y))]
        if self.cross is not None:
            sublayers.insert(1, lambda y: self.drop(self.cross(y, memory, memory_hidden)))
        for sublayer, norm in zip(sublayers, self.norms, strict=True):
            x = x + sublayer(norm(x)) if self.pre else norm(x + sublayer(x))
        return x


def _head(model: ModelConfig, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(model.dim, model.dim),
        nn.LayerNorm(model.dim),
        nn.ReLU(),
        nn.Dropout(model.head_dropout),
        nn.Linear(model.dim, outputs),
    )


class Encoder(nn.Module):
    """The synthetic tasks: one-hot symbols (B, N) to logits (B, N, classes)."""

    def __init__(self, model: ModelConfig, variant: str, shape: Shape) -> None:
        super().__init__()
        self.symbols = shape.inputs
        self.embed = nn.Linear(shape.inputs, model.dim)
        self.register_buffer("code", torch.from_numpy(sinusoids(shape.length, model.dim)), persistent=False)
        self.blocks = nn.ModuleList(
            Block(model, Attention(model, variant, shape.length, fused=True)) for _ in range(model.layers)
        )
        self.head = _head(model, shape.outputs)

    def forward(self, symbols: Tensor) -> Tensor:
        """Logits of every position."""
        x = self.embed(F.one_hot(symbols, self.symbols).float()) + self.code[: symbols.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class VisionTransformer(nn.Module):
    """Images (B, C, height, width) to class logits."""

    def __init__(self, model: ModelConfig, variant: str, shape: Shape) -> None:
        super().__init__()
        self.patch = shape.patch
        self.embed = nn.Linear(shape.inputs, model.dim)
        self.class_token = nn.Parameter(torch.randn(1, 1, model.dim))
        self.positions = nn.Parameter(torch.randn(1, shape.length, model.dim))
        self.blocks = nn.ModuleList(
            Block(model, Attention(model, variant, shape.length, fused=True)) for _ in range(model.layers)
        )
        self.head = nn.Sequential(nn.Linear(model.dim, model.dim), nn.GELU(), nn.Linear(model.dim, shape.outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Class logits."""
        batch, channels, height, width = images.shape
        p = self.patch
        tiles = images.reshape(batch, channels, height // p, p, width // p, p).permute(0, 2, 4, 1, 3, 5)
        x = self.embed(tiles.flatten(3).flatten(1, 2))
        x = torch.cat([self.class_token.repeat(batch, 1, 1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class LanguageModel(nn.Module):
    """The character model (learned positions, separate heads) and the number model (sinusoids, tied output)."""

    def __init__(self, model: ModelConfig, variant: str, shape: Shape) -> None:
        super().__init__()
        length, self.factor = shape.length, math.sqrt(model.dim) if model.embedding_scale else 1.0
        self.embed = nn.Embedding(shape.inputs, model.dim)
        self.learned = model.positions == "learned"
        if self.learned:
            self.positions = nn.Embedding(length, model.dim)
        else:
            code = sinusoids(length, model.dim, halves=model.positions == "sinusoidal_halves")
            self.register_buffer("code", torch.from_numpy(code), persistent=False)
        self.drop = nn.Dropout(model.embedding_dropout)
        self.blocks = nn.ModuleList(
            Block(
                model,
                Heads(model, variant, length)
                if model.position_maps == "head"
                else Attention(model, variant, length, fused=False),
            )
            for _ in range(model.layers)
        )
        self.norm = nn.LayerNorm(model.dim)
        self.head = nn.Linear(model.dim, shape.outputs)
        if model.tied_output:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, N, V) of the next token."""
        length = tokens.shape[1]
        places = self.positions(torch.arange(length, device=tokens.device)) if self.learned else self.code[:length]
        x = self.drop(self.embed(tokens) * self.factor + places)
        hidden = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        for block in self.blocks:
            x = block(x, hidden)
        return self.head(self.norm(x))


class Translator(nn.Module):
    """Source (B, M) and target (B, N) to log-probabilities (B, N, V) of the next target token."""

    def __init__(self, model: ModelConfig, variant: str, shape: Shape) -> None:
        super().__init__()

        def attention() -> Attention:
            return Attention(model, variant, shape.length, fused=False)

        self.factor = math.sqrt(model.dim)
        self.source_embed = nn.Embedding(shape.inputs, model.dim)
        self.target_embed = nn.Embedding(shape.outputs, model.dim)
        self.register_buffer("code", torch.from_numpy(sinusoids(shape.length, model.dim)), persistent=False)
        self.drop = nn.Dropout(model.embedding_dropout)
        self.encoder = nn.ModuleList(Block(model, attention()) for _ in range(model.layers))
        self.decoder = nn.ModuleList(Block(model, attention(), attention()) for _ in range(model.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(model.dim) for _ in range(2))
        self.head = nn.Linear(model.dim, shape.outputs)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities of the next target tokens."""
        padding = (source == PADDING)[:, None, None, :]
        memory = self.drop(self.source_embed(source) * self.factor + self.code[: source.shape[1]])
        for block in self.encoder:
            memory = block(memory, padding)
        memory = self.norms[0](memory)
        length = target.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=target.device).triu(1)
        hidden = future | (target == PADDING)[:, None, None, :]
        x = self.drop(self.target_embed(target) * self.factor + self.code[:length])
        for block in self.decoder:
            x = block(x, hidden, memory, padding)
        return F.log_softmax(self.head(self.norms[1](x)), dim=-1)


def translation_loss(log_q: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Label smoothing as the KL divergence from a target distribution: mean over all rows, padding counts as 0."""
    rows, labels = log_q.flatten(0, 1), labels.flatten()
    target = torch.full_like(rows, smoothing / (rows.shape[-1] - 2))
    target.scatter_(1, labels[:, None], 1 - smoothing)
    target[:, PADDING] = 0
    target.masked_fill_((labels == PADDING)[:, None], 0)
    return F.kl_div(rows, target, reduction="batchmean")


MODELS: dict[str, type[nn.Module]] = {
    "encoder": Encoder,
    "vit": VisionTransformer,
    "gpt": LanguageModel,
    "seq2seq": Translator,
}


def build(run: RunConfig, shape: Shape) -> nn.Module:
    """The published model of a run of qkv, kv or kv_pos; initial values do not matter for its speed."""
    return MODELS[run.definition.architecture](run.model, run.variant, shape)
