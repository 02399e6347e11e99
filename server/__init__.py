"""The HTTP face: settings, the OpenAI-compatible API, the command line, and who serves which intent."""
