"""Optimiser, learning-rate curve and weight averaging."""

import math

from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnv4serve.train.config import TrainConfig

FINAL_SHARE = 0.005


def build_optimiser(model: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW that decays matrices and kernels, but neither norms nor biases nor layer scales."""
    decayed: list[Tensor] = [p for p in model.parameters() if p.ndim > 1]
    free: list[Tensor] = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(config: TrainConfig, epochs_passed: float) -> float:
    """Linear warm-up, then a cosine down to almost nothing."""
    warmup = min(config.warmup_epochs, config.epochs / 2)
    if epochs_passed < warmup:
        return config.learning_rate * max(epochs_passed / warmup, FINAL_SHARE)
    passed = (epochs_passed - warmup) / (config.epochs - warmup)
    cosine = (1 + math.cos(math.pi * passed)) / 2
    return config.learning_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * cosine)


def build_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of parameters and batch-norm statistics."""
    blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
