"""The toolchain: from the pinned llama.cpp to a proven wheel, one module per verb."""
