"""The models on this machine and their server.

`together_nb.local.server` has the server (`LocalServer`); ``python -m together_nb.local`` runs it until Ctrl-C. It serves
the n-gram model of `together_nb.local.ngram`, and the model files that `together_nb.local.models` finds, which
`together_nb.local.llama` runs.
"""
