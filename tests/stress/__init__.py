"""What takes too long for `make test`: `make stress` runs all of it, goes on where it stopped, and writes a table."""
