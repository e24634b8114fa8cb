"""Hugging Face directories: config.json and model.safetensors, both ways."""

import json
import pathlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from larder_train.errors import InputError
from larder_train.model.hf_config import config_of, options_of
from larder_train.model.transformer import Transformer


def save_hf(model: Transformer, folder: pathlib.Path, eos: int,
            dtype: torch.dtype = torch.float32) -> None:
    """Writes config.json, generation_config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(model.options, eos)
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"eos_token_id": eos, "pad_token_id": eos}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {name: w.detach().to("cpu", dtype).contiguous()
               for name, w in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_hf(folder: pathlib.Path) -> Transformer:
    """Reads a directory of one of the four kinds, all weights as float32."""
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    model = Transformer(options_of(json.loads(config_path.read_text()), str(config_path)))
    try:
        weights = {k: v.float() for k, v in load_file(weights_path).items()}
    except SafetensorError as error:
        raise InputError(f"{weights_path}: {error}") from error
    if model.lm_head is None:  # tied: under one name, the other, or both
        if (output := weights.pop("lm_head.weight", None)) is not None:
            weights.setdefault("model.embed_tokens.weight", output)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{weights_path}: {error}") from error
    return model
