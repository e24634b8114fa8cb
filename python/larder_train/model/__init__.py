"""Decoder-only transformers with a choice of attention, and their Hugging Face form."""
