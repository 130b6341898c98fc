"""What a run will need and do on many devices, said before any device is booked."""
