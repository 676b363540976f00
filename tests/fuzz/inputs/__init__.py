"""Well-formed inputs of every format, and ways to damage them that know the format."""
