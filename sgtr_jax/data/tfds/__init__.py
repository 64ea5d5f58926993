"""Chat records as a TFDS data set, which many processes read row by row."""
