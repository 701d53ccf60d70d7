//! One file per family of kernels: plain functions over slices, each with a slow reference and a test that they agree.
