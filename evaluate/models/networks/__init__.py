"""Networks taken apart without being changed: cut at a layer, copied, recorded, and given back as they were."""
