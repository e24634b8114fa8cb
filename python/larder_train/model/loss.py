"""Cross-entropy straight from the last hidden state, a few rows of logits at a time.

All logits of a step would be hundreds of megabytes. The gradient of each chunk is made while its
logits are in the cache, so backward has nothing to recompute.
"""

import dataclasses

import torch
from torch import Tensor

CHUNK_ROWS = 512  # times 8192 logits in float32 = 16 MB


@dataclasses.dataclass
class Targets:
    """What n rows should predict."""

    ids: Tensor      # int64 [n]
    weights: Tensor  # float32 [n], already divided by the step's total
    teacher_hidden: Tensor | None = None  # [n, teacher width]: soft targets as well
    teacher_weight: Tensor | None = None  # [vocab_size, teacher width]
    teacher_share: float = 0.0


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Targets, dtype: torch.dtype):
        h, w = hidden.detach().to(dtype), weight.detach().to(dtype)
        nll = torch.empty(len(h), device=h.device)
        total = torch.zeros((), device=h.device)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for i in range(0, len(h), CHUNK_ROWS):
            rows = slice(i, i + CHUNK_ROWS)
            log_p = torch.log_softmax((h[rows] @ w.T).float(), dim=-1)
            ids, row_weights = targets.ids[rows, None], targets.weights[rows, None]
            nll[rows] = -log_p.gather(1, ids)[:, 0]
            loss = nll[rows] * (1 - targets.teacher_share)
            d_logits = log_p.exp()
            if targets.teacher_share > 0:
                soft = targets.teacher_hidden[rows].to(dtype) @ targets.teacher_weight.T.to(dtype)
                soft = torch.softmax(soft.float(), dim=-1)
                loss = loss - targets.teacher_share * (soft * log_p).sum(-1)
                d_logits.sub_(soft, alpha=targets.teacher_share)
            ones = torch.full_like(ids, -1, dtype=d_logits.dtype) * (1 - targets.teacher_share)
            d_logits.scatter_add_(1, ids, ones)
            d_logits = d_logits.mul_(row_weights).to(dtype)
            total += (loss * row_weights[:, 0]).sum()
            d_hidden[rows] = (d_logits @ w).to(d_hidden.dtype)
            d_weight += (d_logits.T @ h[rows]).to(d_weight.dtype)
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx, d_total, _):
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * d_total, d_weight * d_total, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Targets,
                         dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Weighted loss, and each row's negative log-likelihood without gradient.

    hidden [n, n_embd], weight [vocab_size, n_embd]; the matrix products run in `dtype`.
    With a teacher the target is (1 - share) of the token and share of the teacher's distribution
    (arXiv:1503.02531).
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, dtype)
