"""What a run keeps of itself: written, found, read, averaged."""
