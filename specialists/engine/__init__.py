"""Continuous batching of many adapters over one base model."""
