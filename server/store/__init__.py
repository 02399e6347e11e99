"""What outlives the process: which specialists operators loaded, and the files they uploaded."""
