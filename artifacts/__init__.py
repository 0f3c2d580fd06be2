"""What every output needs: files that are whole or absent, http, progress, origin."""
