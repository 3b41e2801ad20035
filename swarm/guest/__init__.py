"""The inside of a guest: the steps of install and customize, the engine that runs them, and verify."""
