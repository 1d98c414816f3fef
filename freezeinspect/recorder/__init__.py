"""What a training loop really moves, seen from outside."""
