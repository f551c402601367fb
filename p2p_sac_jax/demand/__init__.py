"""Price memories: what one peer remembers of its own prices and sales."""
