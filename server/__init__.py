"""The HTTP face: settings, the OpenAI-compatible API, the command line, and the mapping from intent to specialist."""
