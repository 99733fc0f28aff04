"""What is minimised and measured, compared with PyTorch's own losses and with simple cases."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from runs import tiny_run

from kvformer.data.tokens import PADDING
from kvformer.models.build import build_model
from kvformer.records.manifest import load_manifest
from kvformer.training.batches import Batches
from kvformer.training.objectives import OBJECTIVES


@pytest.mark.parametrize("rows", ["all", "tokens"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_translation_loss_is_the_divergence_from_the_smoothed_target(
    rows: str, smoothing: float, prepared: Path
) -> None:
    """PyTorch's KLDivLoss of a target with 1 - s on the right token, s / (V - 2) elsewhere, 0 on <pad> and its rows."""
    run = tiny_run("translation_en_de", data={"loss_rows": rows}, training={"label_smoothing": smoothing})
    data = run.definition.load(run, {"multi30k": load_manifest(prepared / "multi30k")})
    objective = OBJECTIVES["translation"](run, data)
    model = build_model(run, data.shape).eval()
    batch = Batches(run, data, torch.device("cpu")).training(0)
    source, target = (batch[side][:, : int((batch[side] != PADDING).sum(1).max())] for side in ("source", "target"))
    logits = model(source, target[:, :-1], source == PADDING)
    labels, symbols = target[:, 1:], logits.shape[-1]
    smoothed = torch.full((*labels.shape, symbols), smoothing / (symbols - 2))
    smoothed.scatter_(-1, labels[..., None], 1 - smoothing)
    smoothed[..., PADDING] = 0
    smoothed[labels == PADDING] = 0
    total = F.kl_div(F.log_softmax(logits, -1), smoothed, reduction="sum")
    count = labels.numel() if rows == "all" else int((labels != PADDING).sum())
    loss = objective.loss(model, batch)
    assert loss.item() == pytest.approx((total / count).item(), rel=1e-5)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(total / count, parameters, allow_unused=True)
    actual = torch.autograd.grad(loss, parameters, allow_unused=True)
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-4)
    if smoothing == 0:
        entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PADDING, reduction="sum")
        assert objective.loss(model, batch).item() == pytest.approx((entropy / count).item(), rel=1e-5)


def test_translation_loss_ignores_padding(prepared: Path) -> None:
    """The same sentences in a batch with a longer one have the same summed divergence."""
    run = tiny_run("translation_en_de", data={"loss_rows": "tokens"})
    data = run.definition.load(run, {"multi30k": load_manifest(prepared / "multi30k")})
    objective = OBJECTIVES["translation"](run, data)
    model = build_model(run, data.shape).double().eval()
    batch = Batches(run, data, torch.device("cpu")).training(0)
    tokens = (batch["target"][:, 1:] != PADDING).sum(1)
    alone = [
        objective.loss(model, {name: tensor[i : i + 1] for name, tensor in batch.items()}).item() for i in range(8)
    ]
    expected = sum(loss * int(n) for loss, n in zip(alone, tokens, strict=True)) / int(tokens.sum())
    assert objective.loss(model, batch).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_classification_loss_is_cross_entropy(smoothing: float, prepared: Path) -> None:
    run = tiny_run("recall", data={"length": 8}, training={"label_smoothing": smoothing})
    data = run.definition.load(run, {})
    objective = OBJECTIVES["classification"](run, data)
    model = build_model(run, data.shape).eval()
    batch = Batches(run, data, torch.device("cpu")).training(0)
    logits = model(batch["inputs"])[:, 4:].flatten(0, 1)
    expected = F.cross_entropy(logits, batch["targets"][:, 4:].flatten(), label_smoothing=smoothing)
    assert objective.loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-6)
