"""Former names of modules that scripts of users import."""
