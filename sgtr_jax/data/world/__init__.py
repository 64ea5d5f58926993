"""A small invented world: what the demo model knows, reads, writes and likes. Everything here is made up."""
