"""Data sets in the formats of other tools, and back: Parquet, folders of pictures, WebDataset; with cards."""
