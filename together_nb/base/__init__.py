"""Basics independent of models and servers: text, Ctrl-C, cancellation, forks."""
