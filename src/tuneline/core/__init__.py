"""What every stage uses: files, identities (digests), arrays, and limits for untrusted input."""
