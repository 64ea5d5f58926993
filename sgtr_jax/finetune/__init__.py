"""Finetuning jobs: trained here, many at once over one base, or by a provider's API."""
