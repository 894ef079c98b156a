"""Benchmarks: what a session adds to a request, against peers and against a hand-written floor, in one run."""
