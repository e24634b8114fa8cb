"""The optimisation loop."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import time

import torch

from larder_train.data.sampler import Rows, RowSampler, Stage, stage_at
from larder_train.errors import InputError
from larder_train.model.loss import Targets, linear_cross_entropy
from larder_train.model.transformer import Transformer
from larder_train.options import TrainOptions
from larder_train.training import checkpoint, curve
from larder_train.training.optim import learning_rate, make_optimizers, set_learning_rate
from larder_train.training.progress import Progress


@dataclasses.dataclass
class Teacher:
    """A frozen model to learn from, and the weight of its distribution in the loss."""

    model: Transformer
    share: float


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: no CUDA device here")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of matrix products. `auto` is bf16 on CUDA and on CPUs with bf16 dot products:
    2.7x f32 on one Zen 5 core (docs/training.md)."""
    good = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    kinds = {"f32": torch.float32, "bf16": torch.bfloat16,
             "auto": torch.bfloat16 if good else torch.float32}
    if name not in kinds:
        raise InputError(f"dtype: '{name}' is not f32, bf16 or auto")
    return kinds[name]


class Trainer:
    """One run: everything that a checkpoint must hold, and the step that changes it.

    A run that is killed and started again ends with the same bits as one that was not, given the
    same machine and number of threads. Not thread-safe.
    """

    def __init__(self, model: Transformer, sampler: RowSampler, stages: list[Stage],
                 options: TrainOptions, teacher: Teacher | None = None):
        if options.threads > 0:
            torch.set_num_threads(options.threads)
        self._device = choose_device(options.device)
        self._dtype = choose_dtype(options.dtype, self._device)
        self.model = model.to(self._device)
        self.sampler, self._stages, self._options = sampler, stages, options
        self._optimizers = make_optimizers(options, self.model)
        self._hidden = torch.compile(model.hidden) if options.compile else model.hidden
        self._teacher = teacher
        if teacher is not None:
            teacher.model.to(self._device).requires_grad_(False)
        self.n_steps = max(1, options.tokens // options.step_tokens)
        self.step, self.tokens = 0, 0

    def state(self) -> dict:
        """What a checkpoint holds."""
        return {"step": self.step, "tokens": self.tokens, "model": self.model.state_dict(),
                "optimizers": [o.state_dict() for o in self._optimizers],
                "sampler": self.sampler.state, "rng": torch.get_rng_state()}

    def restore(self, state: dict) -> None:
        """Goes on where `state()` was taken."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens = state["step"], state["tokens"]
        self.sampler.state = state["sampler"]
        torch.set_rng_state(state["rng"])

    def train_step(self) -> dict:
        """One optimiser step; returns its figures."""
        o = self._options
        stage = stage_at(self._stages, self.step / self.n_steps)
        row_tokens = stage.row_tokens
        rows = self.sampler.next(max(1, o.step_tokens // row_tokens), stage)
        rate = learning_rate(o, self.step, self.n_steps)
        set_learning_rate(self._optimizers, rate)
        nll = self._accumulate(rows, max(1, o.micro_tokens // row_tokens))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), o.clip)
        if not torch.isfinite(norm):
            raise InputError(f"step {self.step}: gradient norm {norm.item()}; begin again in "
                             "another --out with a lower --lr")
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += rows.inputs.size
        answers = torch.from_numpy(rows.answers)
        text = torch.from_numpy(rows.weights > 0) & ~answers
        return {"step": self.step - 1, "tokens": self.tokens, "loss": nll[text].mean().item(),
                "answer_loss": nll[answers].mean().item() if answers.any() else None,
                "lr": rate, "norm": norm.item(), "row_tokens": row_tokens}

    def _accumulate(self, rows: Rows, micro_rows: int) -> torch.Tensor:
        """Adds the gradients of all rows; returns each target's loss, [n_rows, row_tokens]."""
        losses = []
        total = float(rows.weights.sum())
        for i in range(0, len(rows.inputs), micro_rows):
            part = slice(i, i + micro_rows)
            inputs, ids, weights = (torch.from_numpy(x[part].copy()).to(self._device)
                                    for x in (rows.inputs, rows.targets, rows.weights))
            targets = Targets(ids.flatten(), weights.flatten() / total)
            with self._autocast():
                if self._teacher is not None:
                    with torch.no_grad():
                        targets.teacher_hidden = self._teacher.model.hidden(inputs).flatten(0, 1)
                    targets.teacher_weight = self._teacher.model.output_weight
                    targets.teacher_share = self._teacher.share
                hidden = self._hidden(inputs).flatten(0, 1)
                loss, nll = linear_cross_entropy(hidden, self.model.output_weight, targets,
                                                 self._dtype)
            loss.backward()
            losses.append(nll.view(ids.shape).cpu())
        return torch.cat(losses)

    def _autocast(self):
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._dtype)


class _StopSignal:
    """Turns SIGINT and SIGTERM into a wish, so that a step and its checkpoint are finished."""

    def __init__(self):
        self.wanted = False
        self._before = {s: signal.signal(s, self._want) for s in (signal.SIGINT, signal.SIGTERM)}

    def _want(self, *_):
        self.wanted = True

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run_to_end(trainer: Trainer, options: TrainOptions, title: str) -> bool:
    """Steps until the run, `max_steps` or `max_minutes` is over or a signal comes. Saves every
    `save_minutes` and at the end. True when the run is complete."""
    run = pathlib.Path(options.out)
    rows = curve.read_metrics(run, trainer.step)
    curve.write_metrics(run, rows)
    progress = Progress(trainer.n_steps, "steps", trainer.step)
    stop = _StopSignal()
    start = saved = time.monotonic()
    first = trainer.step
    try:
        with open(run / "metrics.jsonl", "a", encoding="utf-8") as log:
            while trainer.step < trainer.n_steps and not stop.wanted:
                began, n_read = time.monotonic(), trainer.tokens
                row = trainer.train_step()
                now = time.monotonic()
                rate = (trainer.tokens - n_read) / (now - began)
                rows.append(row)
                log.write(json.dumps(row) + "\n")
                log.flush()
                progress.update(trainer.step, _summary(row, rate))
                if now - saved > options.save_minutes * 60:
                    _save(run, trainer, options.keep, rows, title)
                    saved = now
                if 0 < options.max_steps <= trainer.step - first:
                    break
                if 0 < options.max_minutes * 60 <= now - start:
                    break
        _save(run, trainer, options.keep, rows, title)
    finally:
        stop.restore()
        progress.close()
    return trainer.step >= trainer.n_steps


def _summary(row: dict, rate: float) -> str:
    answer = "" if row["answer_loss"] is None else f", answers {row['answer_loss']:.3f}"
    return (f"loss {row['loss']:.3f}{answer}, {row['tokens'] / 1e6:.2f} M tokens, "
            f"{rate:.0f} tokens/s, rows of {row['row_tokens']}, rate {row['lr']:.2e}")


def _save(run: pathlib.Path, trainer: Trainer, keep: int, rows: list[dict], title: str) -> None:
    for name, weight in trainer.model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise InputError(f"step {trainer.step}: weights of {name} are not finite, and are not "
                             "saved; begin again in another --out with a lower --lr")
    checkpoint.save_checkpoint(run, trainer.step, trainer.state(), keep)
    curve.write_curve(run, rows, title)
