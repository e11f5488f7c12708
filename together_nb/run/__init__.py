"""One request: its open choices are resolved, it is sent, read, drawn and kept."""
