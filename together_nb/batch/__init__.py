"""Many requests: `map_prompts` and `compare`."""
