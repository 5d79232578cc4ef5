"""What users of layer-wise relevance propagation should know of its licence."""

LRP = (
    "LRP is patented; the authors of AttnLRP say of their own code that it is free for personal and scientific use "
    "alone. For other uses, ask whether you need a licence."
)
