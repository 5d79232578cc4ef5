"""The results of a run as tables that other tools read, with cards about them; and back."""
