"""The figures of a comparison as markdown tables between two marks of a page, JSON and pictures."""

import json
import pathlib

from larder_train.compare.picture import quality_svg, speed_svg
from larder_train.marked import replace_between

BEGIN, END = "<!-- figures: written by `larder_train compare` -->", "<!-- end of figures -->"


def mean_bits(model: dict) -> float:
    """Bits per byte, mean over the held-out texts."""
    values = model["bits_per_byte"].values()
    return sum(values) / len(values)


def _main_table(figures: dict) -> list[str]:
    models = figures["models"]
    whole = models[0]["kv_bytes_per_token"]
    texts = list(models[0]["bits_per_byte"])
    head = ["", "weights", "KV bytes per token", "saved",
            *(text.removeprefix("heldout_") for text in texts), "mean", "decode, tokens/s"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for model in models:
        size = model["kv_bytes_per_token"]
        speed = figures["speed"]["tokens_per_second"][model["name"]]
        cells = [model["title"], f"{model['weights']:,}", f"{size:,}",
                 f"{1 - size / whole:.1%}" if size != whole else "-",
                 *(f"{model['bits_per_byte'][text]:.3f}" for text in texts),
                 f"{mean_bits(model):.3f}",
                 f"{speed['median']:.0f} ({speed['min']:.0f} to {speed['max']:.0f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _retrieval_table(figures: dict) -> list[str]:
    models = figures["models"]
    lengths = [row["tokens"] for row in models[0]["retrieval"]]
    depths = sorted(models[0]["retrieval"][0]["passkey_by_depth"])
    head = ["pass-key", *(f"{n}" for n in lengths),
            *(f"depth {d}" for d in depths), *(f"key-value {n}" for n in lengths)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for model in models:
        rows = model["retrieval"]
        by_depth = [sum(row["passkey_by_depth"][d] for row in rows) / len(rows) for d in depths]
        values = [*(row["passkey"] for row in rows), *by_depth, *(row["key_value"] for row in rows)]
        lines.append("| " + " | ".join([model["title"], *(f"{v:.0%}" for v in values)]) + " |")
    return lines


def tables(figures: dict) -> str:
    """Markdown, without the marks."""
    t, speed, shape = figures["training"], figures["speed"], figures["shape"]
    samples = figures["models"][0]["retrieval"][0]["samples"]
    text = [
        f"{shape['n_layers']} layers, {shape['n_embd']} wide, {shape['n_heads']} query heads of "
        f"{shape['head_dim']}, {shape['vocab_size']} tokens. Each was trained on {t['tokens']:,} "
        f"tokens in steps of {t['step_tokens']} ({t['optimizer']}, rate {t['lr']}, stages "
        f"`{','.join(t['stages'])}`, seed {t['seed']}); uptraining had "
        f"{t['uptrain_fraction']:.0%} of that.", "",
        "Bits per byte of held-out text, and tokens per second with "
        f"{speed['depth']} tokens in the cache (median, least and most; {speed['engine']}):", "",
        *_main_table(figures), "",
        f"Share of right answers, {samples} prompts per length; by depth over all lengths:", "",
        *_retrieval_table(figures)]
    return "\n".join(text) + "\n"


def write_report(page: pathlib.Path, figures: dict) -> None:
    """Replaces what stands between the marks of `page` (a new page holds nothing else); writes
    NAME.json, NAME_quality.svg and NAME_speed.svg beside it."""
    stem = page.with_suffix("")
    replace_between(page, BEGIN, END, "\n".join([
        tables(figures), f"![Bits per byte against cache]({stem.name}_quality.svg)",
        f"![Decoding speed]({stem.name}_speed.svg)"]))
    stem.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    points = [(m["title"], m["kv_bytes_per_token"], mean_bits(m)) for m in figures["models"]]
    pathlib.Path(f"{stem}_quality.svg").write_text(quality_svg(points))
    rates = [(m["title"], figures["speed"]["tokens_per_second"][m["name"]]["median"])
             for m in figures["models"]]
    title = f"Tokens per second with {figures['speed']['depth']} tokens in the cache"
    pathlib.Path(f"{stem}_speed.svg").write_text(speed_svg(rates, title))
