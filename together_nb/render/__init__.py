"""Values as Markdown, HTML and plain text."""
