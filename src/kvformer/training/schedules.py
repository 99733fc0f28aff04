"""Learning-rate schedules, as functions of the step."""

import math

from kvformer.spec.sections import ModelConfig, TrainingConfig


def learning_rate(step: int, steps: int, training: TrainingConfig, model: ModelConfig) -> float:
    """Learning rate of a step in 0 … steps - 1.

    constant: the peak rate. cosine: peak · ½(1 + cos(π·t/steps)). warmup_cosine: the same half cosine over the steps
        after the warm-up. All are multiplied by t/warm-up during warm-up, so that step 0 has rate 0.
    one_cycle: half a cosine from 1/25 of the peak to the peak over the first quarter of the steps, then half a cosine
        to 1e-5 of the peak (fastai's defaults).
    wsd: the peak rate, and over the last decay_share of the steps a straight line to 0, which the step after the last
        would have (Hägele et al. 2024, arXiv 2405.18392).
    inverse_sqrt: peak · d^-½ · min(t^-½, t · warm-up^-1.5) with t counted from 1 (Vaswani et al. 2017, section 5.3).
    """
    peak, warmup = training.learning_rate, training.warmup_steps
    if training.schedule == "inverse_sqrt":
        count = step + 1
        rising = count * max(warmup, 1) ** -1.5
        return peak * model.dim**-0.5 * min(count**-0.5, rising)
    if training.schedule == "one_cycle":
        return peak * _one_cycle(step / steps, 1 / 25, 1.0, 1e-5)
    rise = min(1.0, step / warmup) if warmup else 1.0
    if training.schedule == "cosine":
        return peak * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
    if training.schedule == "warmup_cosine" and step > warmup:
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    if training.schedule == "wsd":
        return peak * min(rise, (steps - step) / (training.decay_share * steps))
    return peak * rise


def first_beta(step: int, steps: int, training: TrainingConfig) -> float:
    """Adam's first decay rate: constant, except that one_cycle moves it from 0.95 to 0.85 and back."""
    return _one_cycle(step / steps, 0.95, 0.85, 0.95) if training.schedule == "one_cycle" else training.betas[0]


def _one_cycle(progress: float, start: float, middle: float, end: float, peak_at: float = 0.25) -> float:
    """Two half cosines through three values."""
    if progress < peak_at:
        return start + (middle - start) * 0.5 * (1 - math.cos(math.pi * progress / peak_at))
    return middle + (end - middle) * 0.5 * (1 - math.cos(math.pi * (progress - peak_at) / (1 - peak_at)))
