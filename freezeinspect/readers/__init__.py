"""Where records come from: one reader a source."""
