"""The page that says whether the candidate is good enough, and why."""
