"""Recipes that make specialists."""
