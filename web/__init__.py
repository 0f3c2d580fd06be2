"""The page: mark in a browser, watch the list get better, take the new class home."""
