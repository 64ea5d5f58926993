"""What a program will need on hardware that is not here: compiled for it, without it."""
