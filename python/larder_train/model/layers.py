"""Attention, feed-forward and norms; names and layouts of the weights are Hugging Face's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from larder_train.options import ModelOptions


CHUNK_QUERIES = 256  # of attend_in_chunks; 128 and 512 were slower at rows of 2048


class RmsNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32 (arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


def rope_width(o: ModelOptions) -> int:
    return o.rope_dim if o.attention == "mla" else o.head_dim


def rope_tables(n_tokens: int, o: ModelOptions, device) -> tuple[Tensor, Tensor]:
    """cos and sin, [n_tokens, rotated width / 2] in float32 (arXiv:2104.09864)."""
    width = rope_width(o)
    at = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    frequencies = o.rope_theta ** (-at / width)
    if o.rope_divisors:
        frequencies = frequencies / torch.tensor(o.rope_divisors, device=device)
    angles = torch.outer(torch.arange(n_tokens, device=device, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (i, i + width / 2) of x [..., n_tokens, width]: Llama, Qwen."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


def rotate_adjacent(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (2i, 2i + 1): DeepSeek-V2."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).to(x.dtype)


def window_mask(n_tokens: int, window: int, device) -> Tensor:
    """True where a query sees a key: itself and window - 1 tokens before it."""
    at = torch.arange(n_tokens, device=device)
    distance = at[:, None] - at[None, :]
    return (distance >= 0) & (distance < window)


def attend_in_chunks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention from plain matrix products, `CHUNK_QUERIES` queries at a time.

    q [b, heads, t, d], k and v [b, kv_heads, t, d] -> [b, heads, t, d]. The query heads of a group
    are rows of one product, keys that no query of the chunk sees are left out. In bf16 on one Zen 5
    core 2.0x as fast as the CPU's flash kernel, forward and backward (docs/training.md); it keeps
    the weights for the backward pass, 2 bytes times half of t squared per head.
    """
    b, heads, t, d = q.shape
    kv_heads = k.shape[1]
    groups = heads // kv_heads
    q = (q * d ** -0.5).reshape(b * kv_heads, groups, t, d)
    k, v = (x.reshape(b * kv_heads, t, d) for x in (k, v))
    chunks = []
    for first in range(0, t, CHUNK_QUERIES):
        last = min(t, first + CHUNK_QUERIES)
        rows = q[:, :, first:last].flatten(1, 2)
        mask = torch.full((last - first, last), float("-inf"), dtype=q.dtype, device=q.device)
        scores = torch.baddbmm(mask.triu(first + 1).repeat(groups, 1), rows, k[:, :last].mT)
        out = torch.softmax(scores, dim=-1) @ v[:, :last]
        chunks.append(out.unflatten(1, (groups, last - first)))
    return torch.cat(chunks, dim=2).reshape(b, heads, t, d)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Causal attention, q [b, heads, t, d], k and v [b, kv_heads, t, d] -> [b, t, heads * d]."""
    if mask is None and q.device.type == "cpu" and q.dtype == torch.bfloat16:
        with torch.autocast("cpu", enabled=False):  # which would compute the softmax in float32
            out = attend_in_chunks(q, k, v)
    else:
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            # Repeated, not enable_gqa: the CPU's flash kernel takes equal head counts only.
            k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return out.transpose(1, 2).flatten(2)


class GroupedAttention(nn.Module):
    """MHA, GQA and MQA; with `owns_kv` false it reads the K and V of an earlier layer
    (CLA, arXiv:2405.12981)."""

    def __init__(self, o: ModelOptions, owns_kv: bool):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = o.n_heads, o.n_kv_heads, o.head_dim
        self.owns_kv = owns_kv
        self.q_proj = nn.Linear(o.n_embd, o.n_heads * o.head_dim, bias=False)
        if owns_kv:
            self.k_proj = nn.Linear(o.n_embd, o.n_kv_heads * o.head_dim, bias=False)
            self.v_proj = nn.Linear(o.n_embd, o.n_kv_heads * o.head_dim, bias=False)
        self.o_proj = nn.Linear(o.n_heads * o.head_dim, o.n_embd, bias=False)
        self.normed = o.family == "qwen3"
        if self.normed:
            self.q_norm = RmsNorm(o.head_dim, o.norm_eps)
            if owns_kv:
                self.k_norm = RmsNorm(o.head_dim, o.norm_eps)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None,
                shared: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [b, t, n_embd]; `shared` is the owner's K and V. Returns the output and the K and V
        that were used, [b, n_kv_heads, t, head_dim], rotated."""
        q = self.q_proj(x).unflatten(-1, (self.n_heads, self.head_dim))
        if self.normed:
            q = self.q_norm(q)
        q = rotate_halves(q.transpose(1, 2), *rope)
        if self.owns_kv:
            k = self.k_proj(x).unflatten(-1, (self.n_kv_heads, self.head_dim))
            if self.normed:
                k = self.k_norm(k)
            k = rotate_halves(k.transpose(1, 2), *rope)
            v = self.v_proj(x).unflatten(-1, (self.n_kv_heads, self.head_dim)).transpose(1, 2)
            shared = (k, v)
        return self.o_proj(_attend(q, *shared, mask)), shared


class LatentAttention(nn.Module):
    """MLA (DeepSeek-V2, arXiv:2405.04434): K and V are made from one latent per token, position
    travels in a separate rotated key that all heads share. Cached: latent and rotated key."""

    def __init__(self, o: ModelOptions):
        super().__init__()
        self.n_heads, self.nope_dim, self.rope_dim = o.n_heads, o.nope_dim, o.rope_dim
        self.kv_latent, self.v_dim = o.kv_latent, o.v_dim
        q_width = o.n_heads * (o.nope_dim + o.rope_dim)
        self.has_q_latent = o.q_latent > 0
        if self.has_q_latent:
            self.q_a_proj = nn.Linear(o.n_embd, o.q_latent, bias=False)
            self.q_a_layernorm = RmsNorm(o.q_latent, 1e-6)  # the epsilon of transformers, fixed
            self.q_b_proj = nn.Linear(o.q_latent, q_width, bias=False)
        else:
            self.q_proj = nn.Linear(o.n_embd, q_width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(o.n_embd, o.kv_latent + o.rope_dim, bias=False)
        self.kv_a_layernorm = RmsNorm(o.kv_latent, 1e-6)
        self.kv_b_proj = nn.Linear(o.kv_latent, o.n_heads * (o.nope_dim + o.v_dim), bias=False)
        self.o_proj = nn.Linear(o.n_heads * o.v_dim, o.n_embd, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None,
                shared) -> tuple[Tensor, None]:
        """x [b, t, n_embd] -> [b, t, n_embd]"""
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))) if self.has_q_latent \
            else self.q_proj(x)
        q = q.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        q_nope, q_rope = q.split((self.nope_dim, self.rope_dim), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((self.kv_latent, self.rope_dim), dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent))
        kv = kv.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        k_nope, v = kv.split((self.nope_dim, self.v_dim), dim=-1)
        k_rope = rotate_adjacent(k_rope.unsqueeze(1), *rope).expand(-1, self.n_heads, -1, -1)
        q = torch.cat((q_nope, rotate_adjacent(q_rope, *rope)), dim=-1)
        k = torch.cat((k_nope, k_rope), dim=-1)
        # The fast kernels want one width for K and V: pad with zeros, cut them off again.
        width = max(q.shape[-1], self.v_dim)
        if q.shape[-1] < width:
            scale = (width / q.shape[-1]) ** 0.5  # attention divides by sqrt(width)
            q, k = F.pad(q * scale, (0, width - q.shape[-1])), F.pad(k, (0, width - k.shape[-1]))
        out = _attend(q, k, F.pad(v, (0, width - self.v_dim)), mask)
        out = out.unflatten(-1, (self.n_heads, width))[..., :self.v_dim].flatten(2)
        return self.o_proj(out), None


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, o: ModelOptions):
        super().__init__()
        self.gate_proj = nn.Linear(o.n_embd, o.n_ff, bias=False)
        self.up_proj = nn.Linear(o.n_embd, o.n_ff, bias=False)
        self.down_proj = nn.Linear(o.n_ff, o.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward, each after a norm and added to the stream."""

    def __init__(self, o: ModelOptions, owns_kv: bool):
        super().__init__()
        self.input_layernorm = RmsNorm(o.n_embd, o.norm_eps)
        self.self_attn = LatentAttention(o) if o.attention == "mla" else \
            GroupedAttention(o, owns_kv)
        self.post_attention_layernorm = RmsNorm(o.n_embd, o.norm_eps)
        self.mlp = FeedForward(o)

    def forward(self, x: Tensor, rope, mask: Tensor | None, shared):
        attended, shared = self.self_attn(self.input_layernorm(x), rope, mask, shared)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), shared
