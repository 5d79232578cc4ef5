import numpy as np
import torch

from an8flower.evaluate.data.images import as_images


def test_pictures_become_images_with_channels_first_between_zero_and_one() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), dtype=np.uint8)
    pictures[0, 0, 0] = (0, 51, 255)
    images = as_images(pictures, torch.device("cpu"))
    assert images.shape == (2, 3, 3, 5)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert images[0, :, 0, 0].tolist() == torch.tensor([0, 0.2, 1]).tolist()
    assert torch.equal((images * 255).round().byte().permute(0, 2, 3, 1), torch.from_numpy(pictures))
