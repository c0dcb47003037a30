"""Training from start to end."""
