"""Who belongs where, what happens when, and who was there."""
