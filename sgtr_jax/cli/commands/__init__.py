"""The commands, one file each: `add_to` adds its parser, `run` does what it says. `cli/main.py` finds them."""
