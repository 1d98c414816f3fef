"""The experiment on a real training loop, and its data."""
