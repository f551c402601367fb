"""The report of a sweep: many populations, what they show together, and what not."""
