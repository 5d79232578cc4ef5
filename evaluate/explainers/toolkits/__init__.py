"""Methods of Captum, pytorch-grad-cam and Zennit, called as if they were ours."""
