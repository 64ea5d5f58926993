"""Sampling and scoring from one base and many adapter chains."""
