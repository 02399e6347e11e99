"""The only package that knows HTTP and OpenAI's field names."""
