"""Files that are whole or not there, so that a kill at any moment loses minutes only."""

import os
import pathlib

import torch

from larder_train.errors import InputError


def checkpoints(run: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step_*.pt"))


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes beside and renames."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text)
    beside.replace(path)


def save_checkpoint(run: pathlib.Path, step: int, state: dict, keep: int) -> None:
    """Writes beside, syncs, renames; then deletes all but the newest `keep`, and what a
    kill left half written."""
    folder = run / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:08d}.pt"
    beside = path.with_suffix(".tmp")
    with open(beside, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    for old in [*folder.glob("*.tmp"), *checkpoints(run)[:-keep]]:
        old.unlink()


def load_checkpoint(path: pathlib.Path) -> dict:
    """Tensors and plain values only: a checkpoint cannot run code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
