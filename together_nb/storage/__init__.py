"""Files, written and read without the key."""
