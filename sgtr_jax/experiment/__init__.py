"""Experiments: a config becomes a graph of recipes, each made once and kept under its fingerprint."""
