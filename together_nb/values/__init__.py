"""Data: parameters, request, chunk, completion, conversation, schema. Nothing here draws, sends or writes."""
