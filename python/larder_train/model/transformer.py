"""The decoder: embedding, layers, and logits or loss."""

import dataclasses
import math

import torch
from torch import Tensor, nn

from larder_train.errors import InputError
from larder_train.model.layers import Layer, RmsNorm, rope_tables, rope_width, window_mask
from larder_train.options import ModelOptions, checked


def validated(options: ModelOptions) -> ModelOptions:
    """The options with the head counts that the kind of attention implies; names what is wrong."""
    o = dataclasses.replace(options)
    if o.attention not in ("mha", "gqa", "mqa", "mla", "cla"):
        raise InputError(f"attention: '{o.attention}' is not mha, gqa, mqa, mla or cla")
    if o.family not in ("llama", "qwen3"):
        raise InputError(f"family: '{o.family}' is not llama or qwen3")
    o.n_kv_heads = {"mha": o.n_heads, "mla": o.n_heads, "mqa": 1}.get(o.attention, o.n_kv_heads)
    checked(o)
    if o.vocab_size == 0:  # which only stands for the tokenizer's
        raise InputError("vocab_size: 0 is not 1 or more")
    if o.n_heads % o.n_kv_heads:
        raise InputError(f"n_heads: {o.n_heads} is not a multiple of n_kv_heads {o.n_kv_heads}")
    rotated = rope_width(o)
    if rotated % 2:
        raise InputError(f"rope width: {rotated} is not even")
    if o.rope_divisors and len(o.rope_divisors) != rotated // 2:
        raise InputError(f"rope_divisors: {len(o.rope_divisors)} numbers, need {rotated // 2}")
    if bool(o.window) != bool(o.window_layers):
        raise InputError(f"window: {o.window} and window_layers: {o.window_layers} need each other")
    if o.window_layers and (o.family != "qwen3" or o.attention == "mla"):
        raise InputError("window_layers: need the family qwen3, not mla")
    if any(i >= o.n_layers for i in o.window_layers):
        raise InputError(f"window_layers: {o.window_layers} of {o.n_layers} layers")
    return o


def kv_owners(o: ModelOptions) -> list[int]:
    """Layer -> the layer whose K and V it reads; itself but for CLA."""
    factor = o.cla_factor if o.attention == "cla" else 1
    return [i - i % factor for i in range(o.n_layers)]


class _Decoder(nn.Module):
    """Everything below the logits; a module of its own for the names of the weights."""

    def __init__(self, o: ModelOptions):
        super().__init__()
        self.embed_tokens = nn.Embedding(o.vocab_size, o.n_embd)
        self.layers = nn.ModuleList(Layer(o, owner == i) for i, owner in enumerate(kv_owners(o)))
        self.norm = RmsNorm(o.n_embd, o.norm_eps)


class Transformer(nn.Module):
    """Weights are named and shaped as in the Hugging Face model of the same family."""

    def __init__(self, options: ModelOptions):
        super().__init__()
        self.options = o = validated(options)
        self.model = _Decoder(o)
        self.lm_head = None if o.tied else nn.Linear(o.n_embd, o.vocab_size, bias=False)
        self._owners = kv_owners(o)
        self._windowed = set(o.window_layers)

    def initialise(self, seed: int) -> None:
        """Normal weights of deviation 0.02, those that write to the stream smaller by
        sqrt(2 n_layers), so that its variance does not grow with depth (GPT-2)."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            deviation = 0.02 / math.sqrt(2 * self.options.n_layers) if writes else 0.02
            with torch.no_grad():
                weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)

    @property
    def output_weight(self) -> Tensor:
        """[vocab_size, n_embd]"""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def hidden(self, ids: Tensor) -> Tensor:
        """ids [b, t] -> the normed stream [b, t, n_embd], what the logits are made from."""
        o, t = self.options, ids.shape[1]
        rope = rope_tables(t, o, ids.device)
        mask = window_mask(t, o.window, ids.device) if self._windowed and t > o.window else None
        x = self.model.embed_tokens(ids)
        shared = {}
        for i, layer in enumerate(self.model.layers):
            owner = self._owners[i]
            x, kv = layer(x, rope, mask if i in self._windowed else None, shared.get(owner))
            shared[owner] = kv
        return self.model.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [b, t] -> logits [b, t, vocab_size]"""
        return self.hidden(ids) @ self.output_weight.T
