"""What lies on disk after a run and what it amounts to. No torch in here."""
