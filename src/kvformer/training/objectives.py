"""Objectives: the loss of a batch, and what is measured on a split."""

from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kvformer.config.run import RunConfig
from kvformer.data.tokens import BEGIN, END, PADDING, detokenise
from kvformer.models.decoding import translate
from kvformer.models.fast.divergence import smoothed_divergence
from kvformer.models.seq2seq import Seq2Seq
from kvformer.tasks.base import IGNORED, TaskData
from kvformer.training.batches import Batch
from kvformer.training.bleu import detokenised_bleu, token_bleu


class Objective(Protocol):
    """What is minimised, and what is measured."""

    def __init__(self, run: RunConfig, data: TaskData) -> None:
        """Take what is needed from a run and its data."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar with gradient."""

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], split: str, tally: list[Tensor] | None = None
    ) -> dict[str, float]:
        """Metrics of a split by name. The model is in evaluation mode, without gradients.

        tally: where an objective knows right from wrong, it appends per batch the positions of each example that are
            right, and those that are scored: (2, B).
        """

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the model's forward pass takes."""


class Classification:
    """Cross-entropy over the last axis of the logits. The classes are image labels, list symbols, places in a set, or
    next tokens."""

    def __init__(self, run: RunConfig, data: TaskData) -> None:
        self.smoothing = run.training.label_smoothing

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The model reads `inputs`."""
        return (batch["inputs"],)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats over the scored positions."""
        logits = model(batch["inputs"])
        return F.cross_entropy(
            logits.flatten(0, -2), batch["targets"].flatten(), ignore_index=IGNORED, label_smoothing=self.smoothing
        )

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], split: str, tally: list[Tensor] | None = None
    ) -> dict[str, float]:
        """Cross-entropy (nats) and accuracy, means over all scored positions of the split."""
        loss = torch.zeros((), dtype=torch.float64)
        correct = scored = 0
        for batch in batches:
            logits, targets = model(batch["inputs"]).flatten(0, -2), batch["targets"].flatten()
            loss += F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum").double().cpu()
            # (2, positions): right, and scored
            marks = torch.stack([logits.argmax(-1) == targets, targets != IGNORED])
            right, count = marks.sum(1).tolist()
            correct, scored = correct + right, scored + count
            if tally is not None:
                tally.append(marks.view(2, len(batch["targets"]), -1).sum(-1).cpu())
        return {"loss": float(loss) / scored, "accuracy": correct / scored}


class Translation:
    """Label-smoothed divergence of the next target token, and BLEU of decoded sentences."""

    def __init__(self, run: RunConfig, data: TaskData) -> None:
        self.smoothing, self.rows, self.bleu = run.training.label_smoothing, run.data.loss_rows, run.data.bleu
        self.language, self.beam = run.data.target, run.data.beam
        self.vocabulary, self.references, self.tokens = data.vocabulary or [], data.references, data.tokens

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The model reads the source, the target without its last token, and where the source is padding."""
        source, target = (_without_padding(batch[side]) for side in ("source", "target"))
        return source, target[:, :-1], source == PADDING

    def _divergence(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Σ KL(smoothed target ‖ model) over real tokens, and the number of rows that the mean is taken over: real
        tokens, or all of them, padding included (`data.loss_rows`)."""
        labels = _without_padding(batch["target"])[:, 1:]
        real = labels != PADDING
        logits = model(*self.inputs(batch), scored=real)
        rows = real.numel() if self.rows == "all" else len(logits)
        return smoothed_divergence(logits, labels[real], self.smoothing), rows

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean divergence in nats per row."""
        divergence, rows = self._divergence(model, batch)
        return divergence / rows

    def measure(
        self, model: nn.Module, batches: Iterable[Batch], split: str, tally: list[Tensor] | None = None
    ) -> dict[str, float]:
        """Mean divergence (nats per row) and BLEU (0 to 100) of a split."""
        divergence, rows, sentences = 0.0, 0, []
        for batch in batches:
            part, count = self._divergence(model, batch)
            divergence, rows = divergence + float(part), rows + count
            sentences += self._decode(model, batch)
        return {"loss": divergence / rows, "bleu": self._score(sentences, split)}

    def _decode(self, model: nn.Module, batch: Batch) -> list[list[int]]:
        assert isinstance(model, Seq2Seq)
        return translate(model, _without_padding(batch["source"]), self.beam).tolist()

    def translate(self, model: nn.Module, batch: Batch) -> list[str]:
        """The translations of a batch as text."""
        tokenizer = self.tokens.tokenizer
        return [detokenise(self._words(row), self.language, tokenizer) for row in self._decode(model, batch)]

    def _words(self, row: list[int]) -> list[str]:
        return [self.vocabulary[index] for index in row if index not in (PADDING, BEGIN, END)]

    def _score(self, sentences: list[list[int]], split: str) -> float:
        """Corpus BLEU-4 against the split's references."""
        references = self.references[split]
        if self.bleu == "sacrebleu":
            words = [self._words(row) for row in sentences]
            return detokenised_bleu(words, references, self.language, self.tokens)
        words = [[self.vocabulary[i] for i in row if i != PADDING] for row in sentences]
        return token_bleu(words, references, self.language, self.tokens)


def _without_padding(rows: Tensor) -> Tensor:
    """Remove the columns that are padding in every row."""
    return rows[:, : int((rows != PADDING).sum(dim=1).max())]


OBJECTIVES: dict[str, type[Objective]] = {"classification": Classification, "translation": Translation}
