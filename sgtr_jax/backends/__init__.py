"""Where finetuning and sampling happen: here in JAX; a provider's API comes later behind the same calls."""
