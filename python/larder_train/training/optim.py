"""Learning-rate schedules and the optimisers of a run."""

import math

import torch
from torch import nn

from larder_train.errors import InputError
from larder_train.options import TrainOptions


def learning_rate(options: TrainOptions, step: int, n_steps: int) -> float:
    """Rate of step 0 <= step < n_steps. `cosine` falls from the end of the warm-up; `wsd` stays at
    the peak and falls like 1 - sqrt in the last `decay` of the steps (arXiv:2405.18392), so a run
    can be prolonged from any checkpoint before that."""
    n_warm = max(1, round(options.warmup * n_steps))
    if step < n_warm:
        return options.lr * (step + 1) / n_warm
    if options.schedule == "cosine":
        done = (step - n_warm) / max(1, n_steps - n_warm)
        return options.lr * (options.min_lr + (1 - options.min_lr) *
                             0.5 * (1 + math.cos(math.pi * done)))
    if options.schedule != "wsd":
        raise InputError(f"schedule: '{options.schedule}' is not wsd or cosine")
    n_decay = max(1, round(options.decay * n_steps))
    done = max(0.0, (step - (n_steps - n_decay)) / n_decay)
    return options.lr * (options.min_lr + (1 - options.min_lr) * (1 - math.sqrt(done)))


def make_optimizers(options: TrainOptions, model: nn.Module) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon (Jordan et al. 2024; step sizes matched to AdamW's as in
    arXiv:2502.16982) for the matrices inside the layers and AdamW for the rest. Only matrices
    decay."""
    matrices, embeddings, vectors = [], [], []
    for name, weight in model.named_parameters():
        kind = vectors if weight.dim() < 2 else matrices if ".layers." in name else embeddings
        kind.append(weight)
    groups = [{"params": embeddings, "weight_decay": options.weight_decay},
              {"params": vectors, "weight_decay": 0.0}]
    optimizers: list[torch.optim.Optimizer] = []
    if options.optimizer == "muon":
        optimizers.append(torch.optim.Muon(matrices, lr=options.lr, momentum=0.95,
                                           weight_decay=options.weight_decay,
                                           adjust_lr_fn="match_rms_adamw"))
    elif options.optimizer == "adamw":
        groups.append({"params": matrices, "weight_decay": options.weight_decay})
    else:
        raise InputError(f"optimizer: '{options.optimizer}' is not adamw or muon")
    return optimizers + [torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, options.beta2),
                                           fused=True)]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """The same rate for every group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
