"""Models and tokenizers: where they come from, how they are loaded, what they are made of, how they are saved."""

from tunesmith.models.quiet import silence_kernel_advice

silence_kernel_advice()
