"""Measurements of speed. Never part of a test: timings are compared within one run and kept as JSON."""
