"""What each command of tasks.py does."""
