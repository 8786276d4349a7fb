"""What the app owns: catalog, history, jobs, settings."""
