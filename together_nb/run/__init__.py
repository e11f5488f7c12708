"""One request: what it leaves open is chosen, it is sent, read, drawn and kept."""
