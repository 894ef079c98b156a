"""Doors for frameworks: facts in, headers out. Each is thin; what they share is decided in `replies`."""
