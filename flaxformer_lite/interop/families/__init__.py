"""Published families: what their settings are in ours, and which of their tensors is which of our parameters."""
