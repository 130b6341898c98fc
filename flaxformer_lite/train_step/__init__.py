"""One pure update: losses, objective, optimizer, state."""
