"""What the machine gives: processes, threads, memory and the console."""
