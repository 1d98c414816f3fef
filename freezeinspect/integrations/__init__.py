"""A watch in the loop of each framework: one file a framework, which imports it."""
