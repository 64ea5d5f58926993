"""Scores and verdicts by a judge, which is any model in Inspect's role `grader`."""
