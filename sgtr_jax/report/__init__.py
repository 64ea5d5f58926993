"""The table, the figures and the page of a run, all made from its stored measurements."""
