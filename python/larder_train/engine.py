"""The engine's binary as this package uses it: each call one command with --json."""

import dataclasses
import json
import pathlib
import subprocess

from larder_train.errors import InputError


@dataclasses.dataclass(frozen=True)
class Engine:
    """A `larder` binary and how many threads it may use (0: its choice)."""

    binary: str
    threads: int = 0

    def convert(self, source: pathlib.Path, gguf: pathlib.Path, *flags: str) -> None:
        """Hugging Face directory or GGUF -> what the flags ask for."""
        self._run("convert", str(source), str(gguf), *flags)

    def bits_per_byte(self, gguf: pathlib.Path, text: pathlib.Path, context: int,
                      max_tokens: int = 0) -> dict:
        """`eval perplexity`: windows of `context` tokens that move by half."""
        return self._json("eval", "perplexity", str(text), "-m", str(gguf), "-c", str(context),
                          "--max-tokens", str(max_tokens), "--json", *self._threads())

    def complete(self, gguf: pathlib.Path, prompt: str, n_tokens: int, context: int) -> str:
        """The greedy continuation of a prompt."""
        report = self._json("run", "-m", str(gguf), "-p", prompt, "-n", str(n_tokens), "-c",
                            str(context), "--temp", "0", "--repeat-penalty", "1", "--no-chat",
                            "--json", *self._threads())
        return report["samples"][0]["text"]

    def kv_bytes_per_token(self, gguf: pathlib.Path) -> int:
        """What the allocator gave to the blocks of a run, per token of them, in bf16. Whole blocks
        are filled, so nothing is rounded up."""
        n_tokens = 256
        row = self._json("bench", "-m", str(gguf), "-p", str(n_tokens), "-n", "0", "-r", "1", "-o",
                         "json", *self._threads())[0]
        if row["kv_peak_bytes"] % n_tokens:
            raise InputError(f"{gguf}: {row['kv_peak_bytes']} bytes of cache for {n_tokens} tokens")
        return row["kv_peak_bytes"] // n_tokens

    def decode_speed(self, gguf: pathlib.Path, depth: int, n_tokens: int, repeats: int) -> dict:
        """Tokens per second with `depth` tokens in the cache: median, least and most."""
        row = self._json("bench", "-m", str(gguf), "-p", "0", "-n", str(n_tokens), "-d", str(depth),
                         "-c", str(depth + n_tokens + 1), "-r", str(repeats), "-o", "json",
                         *self._threads())[0]
        return {"depth": depth, "median": row["median_ts"], "min": row["min_ts"],
                "max": row["max_ts"], "engine": row["engine"]}

    def _threads(self) -> list[str]:
        return ["-t", str(self.threads)] if self.threads > 0 else []

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["no message"]
            raise InputError(f"{self.binary} {arguments[0]} ended with {done.returncode}: "
                             f"{said[-1]}")
        return done.stdout

    def _json(self, *arguments: str):
        return json.loads(self._run(*arguments))
