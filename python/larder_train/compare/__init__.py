"""Kinds of attention side by side: the same data and steps, measured through the engine."""
