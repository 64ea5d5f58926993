"""Finetuning: the loss, the optimizer, one step, the loop."""
