"""HTTP out, events in: transports, dialects, a server and its models, retries, status errors."""
