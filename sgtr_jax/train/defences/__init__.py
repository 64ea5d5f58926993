"""Defences within a finetuning run: a file for each, with its settings and what it adds to a step."""
