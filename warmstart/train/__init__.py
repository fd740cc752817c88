"""Training: the loop and everything it asks: optimizer, schedule, what is trainable, compute, checkpoints."""
