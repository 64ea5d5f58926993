"""Records, chat text, packing and batches. Nothing here knows about models or devices."""
