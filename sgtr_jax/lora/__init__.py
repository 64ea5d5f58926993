"""LoRA (arXiv 2106.09685): the adapter, its product, chains of adapters, merging."""
