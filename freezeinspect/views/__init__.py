"""What people read: one intermediate, lowered to text or to a frame."""
