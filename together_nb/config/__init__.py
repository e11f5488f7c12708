"""Settings, the environment, keys, and addresses of servers."""
