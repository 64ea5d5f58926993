"""The `sgtr` command."""
