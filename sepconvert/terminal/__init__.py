"""What people read in the terminal: records, progress, and the machine."""
