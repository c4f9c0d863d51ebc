"""A target named in words: a vision-language model or a detector is asked for its box."""
