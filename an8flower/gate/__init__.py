"""The gate: whatever is read from a file is opened here, by one function for each kind of file.

What a function of this package gives back is of a bounded size and of the kinds that this program writes. Nothing that
a file says is believed before that. Raises Refusal with one sentence for everything else. To be read in this order:

- `regular.py` `check_regular`: no folder, pipe or device, and no larger than its kind may be; all others begin with it.
- `documents.py` `read_text`, `read_json`, `read_toml`: bounded depth, finite numbers.
- `arrays.py` `read_npz`: no more bytes than the head of each array declares, nothing unpickled.
- `tables.py` `read_parquet`: known columns, and the memory that `parquet_pages.py` reads off the heads of the pages.
- `hdf5.py` `open_hdf5`: a tree of known names, types and sizes, nothing that lies elsewhere, before a byte of data.
- `pictures.py` `open_picture`: six formats, no other program, bounded pixels.
- `archives.py` `read_tar`, `tensors.py` `read_safetensors`: bounded members, and arrays of plain numbers.
- `child.py` `walk_in_child`: what may kill or hold the process that reads, done in one of its own.

The weights of models are opened by `read_tensors` of `evaluate/models/safetensors_files.py`, since that loads torch.
"""
