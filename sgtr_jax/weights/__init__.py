"""Weights in and out: Hugging Face folders, PEFT adapters, converted (Orbax) folders."""
