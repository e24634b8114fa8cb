"""Trains small decoder-only language models whose attention needs less KV cache."""
