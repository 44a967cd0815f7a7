"""What every stage stands on: files, sorted arrays, identities, manifests, bounds."""
