"""What knows nothing of models and servers: text, Ctrl-C, cancelling, forks."""
