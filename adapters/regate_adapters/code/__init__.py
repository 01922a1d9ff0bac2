"""What runs code: kernels of a Jupyter server or kernel gateway."""
