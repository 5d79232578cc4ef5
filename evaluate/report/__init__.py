"""The page: what lies on disk after an audit, as one HTML file. No torch in here."""
