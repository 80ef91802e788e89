"""Readers: one module per dataset. Each has an object `reader`, which a protocol names by its module."""
