"""Search for better params: trials that train with other values, each a DVC experiment."""
