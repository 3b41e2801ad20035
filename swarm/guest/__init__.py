"""What is inside a guest: steps that know what is, what should be, and how to get there."""
