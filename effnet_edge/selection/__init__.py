"""Choosing the most accurate model that a device can afford."""
