"""Text and generated tasks as token batches."""
