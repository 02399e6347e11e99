"""Where weights come from: pinned files, the mirrors that carry them, and the cache they end in."""
