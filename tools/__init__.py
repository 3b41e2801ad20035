"""What only developers run: the project's own checks and the recorder of the README's pictures."""
