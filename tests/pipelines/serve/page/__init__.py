"""The page in a real browser: what a person types, sees and clicks."""
