"""What is refused or repaired before a row is read: encodings, damage, foreign formats, memory."""
