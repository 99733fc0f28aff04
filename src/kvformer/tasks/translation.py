"""Translation with an encoder-decoder, English to German and back."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kvformer.data.tokens import BEGIN, END, MOSES, PADDING, UNKNOWN, Tokens
from kvformer.errors import DataError
from kvformer.records.manifest import Manifest
from kvformer.spec.sections import MOST, PositiveInt
from kvformer.spec.shapes import Shape
from kvformer.tasks.base import Arrays, Manifests, Overrides, PreparedSection, TaskData, TaskDefinition, TaskRun


class TranslationData(PreparedSection):
    """Sentence pairs."""

    dataset: str = Field("multi30k", description="Prepared sentence pairs.")
    source: str = Field("en", description="Language to translate from.")
    target: str = Field("de", description="Language to translate to.")
    min_frequency: PositiveInt = Field(1, description="Rarer words of the training split become <unk>.")
    max_length: Annotated[int, Field(gt=3, le=MOST)] = Field(
        100,
        description="Most tokens per sentence, including <bos> and <eos>; longer ones are cut, decoding stops there.",
    )
    train_examples: PositiveInt | None = Field(None, description="Use only the first n training pairs (default: all).")
    test_examples: PositiveInt | None = Field(
        None, description="Use only the first n validation pairs and the first n test pairs (default: all)."
    )
    loss_rows: Literal["all", "tokens"] = Field(
        "tokens",
        description="Average the loss over all rows of a batch, with 0 for padding, as published; or over tokens only.",
    )
    bleu: Literal["tokens_with_ends", "sacrebleu"] = Field(
        "sacrebleu",
        description="BLEU-4 on tokens, including <bos> and <eos>, as published; or sacrebleu on detokenised text. "
        "Both 0 to 100.",
    )
    beam: PositiveInt = Field(1, description="Beam width of decoding; 1 is greedy.")


SIZES = {"en": 11254, "de": 19224}
"""Vocabulary sizes of Multi30k with the Moses tokenizer, for counts before the data are prepared."""


def _vocabulary(data: TranslationData, manifest: Manifest, language: str) -> list[str]:
    words = manifest.lines(f"{language}_vocabulary")
    counts = np.bincount(manifest.array(f"train_{language}_tokens"), minlength=len(words))
    kept = max(END + 1, int((counts >= data.min_frequency)[END + 1 :].sum()) + END + 1)
    return words[:kept]


def _shape(data: TranslationData, manifests: Manifests | None) -> Shape:
    if manifests is None:
        source, target = (SIZES.get(language, SIZES["en"]) for language in (data.source, data.target))
    else:
        manifest = manifests[data.dataset]
        source, target = (len(_vocabulary(data, manifest, language)) for language in (data.source, data.target))
    return Shape(length=data.max_length, inputs=source, outputs=target, target_inputs=target)


def _padded(manifest: Manifest, split: str, language: str, symbols: int, limit: int | None, longest: int) -> np.ndarray:
    """Sentences as rows <bos> … <eos> <pad> …, (sentences, length of the longest) int32."""
    tokens = np.asarray(manifest.array(f"{split}_{language}_tokens"))
    offsets = np.asarray(manifest.array(f"{split}_{language}_offsets"))[: None if limit is None else limit + 1]
    tokens = np.where(tokens < symbols, tokens, UNKNOWN)
    lengths = np.minimum(np.diff(offsets), longest - 2)
    rows = np.full((len(lengths), int(lengths.max()) + 2), PADDING, dtype=np.int32)
    rows[:, 0] = BEGIN
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows[row, place + 1] = tokens[offsets[row] + place]
    rows[np.arange(len(lengths)), lengths + 1] = END
    return rows


def _references(data: TranslationData, manifest: Manifest, split: str, limit: int | None) -> list[str]:
    """Sentences to compare translations with. Raises DataError where they are not those of the token arrays, and where
    even a perfect translation would have BLEU 0, because none has the four tokens of the longest n-gram."""
    lines = manifest.lines(f"{split}_{data.target}")
    lengths = np.diff(manifest.array(f"{split}_{data.target}_offsets"))
    if len(lines) != len(lengths):
        where = f"{manifest.folder}: {split}_{data.target}"
        raise DataError(f"{where}: {len(lines)} sentences, but tokens of {len(lengths)}; prepare the data set again")
    longest = int(lengths[:limit].max()) + (2 if data.bleu == "tokens_with_ends" else 0)
    if longest < 4:
        raise DataError(
            f"{data.dataset}: no sentence of {split}.{data.target} has 4 tokens, the longest has {longest}: BLEU is 0 "
            "even for a perfect translation; use longer sentences"
        )
    return lines[:limit]


def _load(run: TaskRun, manifests: Manifests) -> TaskData:
    data: TranslationData = run.data
    manifest = manifests[data.dataset]
    shape = _shape(data, manifests)
    limits = {"train": data.train_examples, "validation": data.test_examples, "test": data.test_examples}
    splits: dict[str, Arrays] = {
        split: {
            "source": _padded(manifest, split, data.source, shape.inputs, limit, data.max_length),
            "target": _padded(manifest, split, data.target, shape.outputs, limit, data.max_length),
        }
        for split, limit in limits.items()
    }
    references = {split: _references(data, manifest, split, limits[split]) for split in ("validation", "test")}
    choices = manifest.facts.get("tokenizer")
    return TaskData(
        splits,
        shape,
        [manifest.record()],
        vocabulary=_vocabulary(data, manifest, data.target),
        references=references,
        tokens=Tokens(**choices[data.target]) if isinstance(choices, dict) else MOSES,
        sources=manifest.lines(f"test_{data.source}"),
    )


DEFAULTS: Overrides = {
    "model": {
        "dim": 256,
        "layers": 2,
        "heads": 4,
        "mlp_ratio": 4.0,
        "activation": "relu",
        "norm": "pre",
        "final_norm": True,
        "scale": "head",
        "position_channels": 10,
        "positions": "sinusoidal",
        "embedding_scale": True,
        "init": "xavier",
        "embedding_dropout": 0.1,
        "attention_dropout": 0.1,
        "attention_output_dropout": 0.1,
        "mlp_dropout": 0.1,
        "mlp_output_dropout": 0.1,
    },
    "training": {
        "epochs": 20.0,
        "batch_size": 50,
        "evaluation_batch_size": 200,
        "drop_last": False,
        "optimizer": "adam",
        "learning_rate": 1.0,
        "betas": (0.9, 0.98),
        "epsilon": 1e-9,
        "schedule": "inverse_sqrt",
        "warmup_steps": 4000,
        "label_smoothing": 0.1,
        "evaluations": 20,
        "record_every": 50,
    },
}


def _task(name: str, label: str, summary: str, source: str, target: str) -> TaskDefinition:
    return TaskDefinition(
        name=name,
        label=label,
        summary=summary,
        family="language",
        architecture="seq2seq",
        objective="translation",
        metric="bleu",
        goal="max",
        data_config=TranslationData,
        defaults={**DEFAULTS, "data": {"source": source, "target": target}},
        protocols={
            "published": {
                "data": {"loss_rows": "all", "bleu": "tokens_with_ends"},
                "model": {"cross_query": "published"},
                "training": {"evaluation_batch_size": 50},
            },
            "corrected": {
                "data": {"loss_rows": "tokens", "bleu": "sacrebleu"},
                "model": {"cross_query": "key"},
                "training": {"select": "best"},
            },
        },
        shape=_shape,
        load=_load,
    )


DEFINITIONS = [
    _task("translation_en_de", "Translation en-de", "Translate English sentences to German.", "en", "de"),
    _task("translation_de_en", "Translation de-en", "Translate German sentences to English.", "de", "en"),
]
