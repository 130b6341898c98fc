"""Several runs side by side: what differs between them, how good each is, and whether that is chance."""
