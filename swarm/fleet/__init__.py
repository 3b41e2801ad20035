"""All hosts at a glance: what `inv status` gathers and shows."""
