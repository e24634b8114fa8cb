"""The models that are compared: one shape, several kinds of attention, as many weights."""

import dataclasses

import torch

from larder_train.errors import InputError
from larder_train.model.transformer import Transformer, validated
from larder_train.options import ModelOptions

FF_STEP = 8  # feed-forward widths are multiples of it

# name -> what differs from the base. GQA-n has n KV heads. MLA and CLA are sized so that they cache
# as many numbers per token as GQA-2 (a quarter of MHA's): three ways to the same saving.
_KINDS = {
    "mha": {"attention": "mha"},
    "gqa4": {"attention": "gqa", "n_kv_heads": 4},
    "gqa2": {"attention": "gqa", "n_kv_heads": 2},
    "mqa": {"attention": "mqa"},
    "mla": {"attention": "mla"},
    "cla": {"attention": "cla", "n_kv_heads": 4, "cla_factor": 2},
}
TITLES = {
    "mha": "MHA", "gqa4": "GQA-4", "gqa2": "GQA-2", "mqa": "MQA", "mla": "MLA", "cla": "CLA-2",
    "pooled": "MHA to GQA-2, means", "aligned": "MHA to GQA-2, aligned",
    "uptrained": "MHA to GQA-2, aligned and uptrained",
}


def n_weights(options: ModelOptions) -> int:
    """Number of weights, without making them."""
    with torch.device("meta"):
        return sum(w.numel() for w in Transformer(options).parameters())


def cached_numbers(options: ModelOptions) -> int:
    """Numbers that a token leaves in the cache, over all layers."""
    o = validated(options)
    if o.attention == "mla":
        return o.n_layers * (o.kv_latent + o.rope_dim)
    owners = -(-o.n_layers // o.cla_factor) if o.attention == "cla" else o.n_layers
    return owners * 2 * o.n_kv_heads * o.head_dim


def variant(name: str, base: ModelOptions) -> ModelOptions:
    """The model called `name`. MHA has the base's feed-forward width; the others' is chosen so that
    they have as many weights as it. REQUIRES base.vocab_size > 0"""
    if name not in _KINDS:
        raise InputError(f"kinds: '{name}' is not {', '.join(_KINDS)}")
    wanted = n_weights(dataclasses.replace(base, attention="mha"))
    options = validated(dataclasses.replace(base, **_KINDS[name]))
    per_column = 3 * base.n_embd * base.n_layers
    spare = wanted - n_weights(options)
    options.n_ff += round(spare / per_column / FF_STEP) * FF_STEP
    if options.n_ff <= 0:
        raise InputError(f"kinds: {name} has more weights than MHA even without feed-forward")
    return options
