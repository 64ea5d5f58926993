"""Devices and processes: meshes, launching a job of several processes, what they say to each other."""
