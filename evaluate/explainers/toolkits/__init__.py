"""Methods of Captum, pytorch-grad-cam, TorchCAM and Zennit, called as if they were ours."""
