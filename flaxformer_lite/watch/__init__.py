"""What people see of a run: its record, curves, progress, and how well it uses the devices."""
